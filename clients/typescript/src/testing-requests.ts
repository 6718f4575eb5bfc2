// Checks the fields of requests, as far as a client of this package can send wrong ones.

import { Refusal } from "./testing-channel.js";
import type { WireMessage } from "./testing-socket.js";

/** Throws a refusal if a field is missing, is not a valid name, or is too long. */
export function checked(message: WireMessage): void {
  for (const field of NEEDED[message.type] ?? []) {
    const value = message[field];
    if (value === undefined) throw invalid(field, "is missing");
    if (NAMES.includes(field)) checkName(field, value);
    if (field === "metadata") checkMetadata(value);
  }
  if (message.type === "subscribe_channel") {
    if (message["metadata"] != null) checkMetadata(message["metadata"]);
    if (String(message["channel"]).startsWith("@")) throw new Refusal("permission_denied", "names that begin with @ are the server's");
  }
  if (message["key"] != null) checkName("key", message["key"], KEY);
}

function checkName(field: string, value: unknown, limit = NAME): void {
  // Names contain no control characters and no unpaired surrogates.
  if (typeof value !== "string" || value === "" || /[\x00-\x1f\x7f-\x9f]|\p{Cs}/u.test(value)) throw invalid(field, "is no name");
  if (bytes(value) > limit) throw new Refusal("limit_exceeded", `\`${field}\` is too long`, { limit, path: field });
}

function checkMetadata(value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("metadata", "is no object");
  if (bytes(JSON.stringify(value)) > METADATA) throw new Refusal("limit_exceeded", "`metadata` is too large", { limit: METADATA, path: "metadata" });
}

function invalid(path: string, what: string): Refusal {
  return new Refusal("validation_error", `\`${path}\` ${what}`, { path });
}

function bytes(text: string): number {
  let length = 0;
  // The length in UTF-8.
  for (const character of text) {
    const point = character.codePointAt(0) as number;
    length += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return length;
}

const NEEDED: Record<string, readonly string[]> = {
  subscribe_channel: ["channel"],
  unsubscribe_channel: ["channel"],
  channel_message: ["channel", "content"],
  client_event: ["channel", "event"],
  private: ["to", "message"],
  group: ["room", "message"],
  broadcast: ["message"],
  presence: ["channel"],
  update_presence: ["channel", "metadata"],
  update_status: ["status"],
  history: ["channel"],
  refresh: ["token"],
};
const NAMES = ["channel", "event", "to", "room"];
/** The limits, in bytes. */
const NAME = 255;
const KEY = 128;
const METADATA = 4096;
