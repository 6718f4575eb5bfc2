// How messages are written: JSON, which is the default, or MessagePack, which a bundler leaves out when unused.

import { decode, encode } from "./msgpack.js";

/** One encoding of `hauyna.v1`. */
export interface Codec {
  /** The sub-protocol that is offered to the server. */
  readonly protocol: string;
  /** Throws for what the encoding cannot hold. */
  encode(message: object): string | Uint8Array;
  /** Throws for what is not of this encoding. */
  decode(data: string | ArrayBuffer): unknown;
}

/** JSON in text frames. */
export const json: Codec = {
  protocol: "hauyna.v1.json",
  encode: (message) => JSON.stringify(message),
  // Of a binary frame it sees a text that is not JSON.
  decode: (data) => JSON.parse(data as string),
};

/**
 * MessagePack in binary frames: smaller, and binary values (`Uint8Array`) stay binary. Integers beyond 2^53 lose
 * their last digits, as they do in JSON.
 */
export const msgpack: Codec = {
  protocol: "hauyna.v1.msgpack",
  encode,
  decode,
};

/** The bytes of a frame's payload. */
export function size(frame: string | Uint8Array): number {
  if (typeof frame !== "string") return frame.length;
  let bytes = frame.length;
  // In UTF-8 a code unit past 0x7F takes a byte more, and one past 0x7FF that is no half of a pair another one.
  for (let at = 0; at < frame.length; at++) {
    const unit = frame.charCodeAt(at);
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit & 0xf800) !== 0xd800 ? 2 : 1;
  }
  return bytes;
}
