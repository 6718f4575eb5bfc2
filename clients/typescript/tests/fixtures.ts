// The fixtures of the protocol, which the Rust tests read as well.

import { readFileSync } from "node:fs";

export function fixture<Row>(name: string): Row[] {
  const file = new URL(`../../../crates/hauyna-protocol/fixtures/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")) as Row[];
}

export function fromHex(text: string): ArrayBuffer {
  return new Uint8Array(Buffer.from(text, "hex")).buffer;
}
