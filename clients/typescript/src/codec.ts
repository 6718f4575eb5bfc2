// The encodings of messages: JSON, the default, and MessagePack, which a bundler removes if it is unused.

import { decode, encode } from "./msgpack.js";

/** One encoding of `hauyna.v1`. */
export interface Codec {
  /** The sub-protocol that the client offers to the server. */
  readonly protocol: string;
  /** Encodes a message. Throws if the encoding cannot represent it. */
  encode(message: object): string | Uint8Array;
  /** Decodes a message. Throws if the data is not in this encoding. */
  decode(data: string | ArrayBuffer): unknown;
}

/** JSON in text frames. */
export const json: Codec = {
  protocol: "hauyna.v1.json",
  encode: (message) => JSON.stringify(message),
  // A binary frame becomes a text that is not JSON, so that parsing throws.
  decode: (data) => JSON.parse(data as string),
};

/**
 * MessagePack in binary frames: smaller than JSON, and `Uint8Array` values stay binary. Integers beyond 2^53
 * lose precision, as in JSON.
 */
export const msgpack: Codec = {
  protocol: "hauyna.v1.msgpack",
  encode,
  decode,
};

/** Returns the number of bytes of a frame's payload. */
export function size(frame: string | Uint8Array): number {
  if (typeof frame !== "string") return frame.length;
  let bytes = frame.length;
  // UTF-8 encodes a code unit above 0x7F in two bytes, and one above 0x7FF that is no surrogate in three.
  for (let index = 0; index < frame.length; index++) {
    const unit = frame.charCodeAt(index);
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit & 0xf800) !== 0xd800 ? 2 : 1;
  }
  return bytes;
}
