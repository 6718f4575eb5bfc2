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
