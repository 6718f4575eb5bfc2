// Checks the fields of requests, as far as a client of this package can send wrong ones.

import { Refusal } from "./testing-channel.js";
import type { WireMessage } from "./testing-socket.js";

/** Throws a refusal if a field is missing, is not a valid name, or is too long. */
export function checkRequest(message: WireMessage): void {
  for (const field of REQUIRED_FIELDS[message.type] ?? []) {
    const value = message[field];
    if (value === undefined) throw invalid(field, "is missing");
    if (NAME_FIELDS.includes(field)) checkName(field, value);
    if (field === "metadata") checkMetadata(value);
  }
  if (message.type === "subscribe_channel") {
    if (message["metadata"] != null) checkMetadata(message["metadata"]);
    if (String(message["channel"]).startsWith("@")) throw new Refusal("permission_denied", "names that begin with @ are the server's");
  }
  if (message["key"] != null) checkName("key", message["key"], MAX_KEY);
}

function checkName(field: string, value: unknown, limit = MAX_NAME): void {
  // Names contain no control characters and no unpaired surrogates.
  if (typeof value !== "string" || value === "" || /[\x00-\x1f\x7f-\x9f]|\p{Cs}/u.test(value)) throw invalid(field, "is no name");
  if (utf8Length(value) > limit) throw new Refusal("limit_exceeded", `\`${field}\` is too long`, { limit, path: field });
}

function checkMetadata(value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("metadata", "is no object");
  if (utf8Length(JSON.stringify(value)) > MAX_METADATA) {
    throw new Refusal("limit_exceeded", "`metadata` is too large", { limit: MAX_METADATA, path: "metadata" });
  }
}

function invalid(path: string, what: string): Refusal {
  return new Refusal("validation_error", `\`${path}\` ${what}`, { path });
}

function utf8Length(text: string): number {
  let length = 0;
  // The length in UTF-8.
  for (const character of text) {
    const codePoint = character.codePointAt(0) as number;
    length += codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
  }
  return length;
}

const REQUIRED_FIELDS: Record<string, readonly string[]> = {
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
const NAME_FIELDS = ["channel", "event", "to", "room"];
/** The limits, in bytes. */
const MAX_NAME = 255;
const MAX_KEY = 128;
const MAX_METADATA = 4096;
