// Compares MessagePack with JSON: the size of typical chat messages, and the time to encode and decode them.
// It prints a table, and never fails: `npm run build && node scripts/codecs.mjs`.

import { json, msgpack } from "../dist/index.js";

const text = (content) => ({
  type: "message",
  channel: "room:42",
  from: "alice",
  content,
  timestamp: 1_764_537_000_123,
  offset: 18_234,
  key: "0a3f1c5e7b9d0a3f1c5e7b9d-17",
});
const messages = {
  "short text": (n) => text({ text: `See you at ${n % 12} then`, nonce: n }),
  "text with accents": (n) => text({ text: `¿Nos vemos a las ${n % 12}? ¡Qué ilusión! 🎉`, nonce: n }),
  "long text": (n) => text({ text: `${n} ${"The quick brown fox jumps over the lazy dog. ".repeat(12)}`, nonce: n }),
  "cursor (floats)": (n) => ({ type: "client_event", channel: "board:1", event: "cursor", user: "bob", data: { x: n / 7, y: n / 3 } }),
  "page of history": (n) => ({
    type: "ack",
    id: n,
    data: { epoch: "k3J9s", offset: n, oldest: 1, messages: Array.from({ length: 20 }, (_, i) => text({ text: `message ${n + i}`, nonce: i })) },
  }),
  "4 kB of bytes": (n) => text({ image: new Uint8Array(4096).map((_, i) => (i * 31 + n) & 255) }),
};
// Applications encode bytes in base64 for JSON.
const asBase64 = (message) =>
  message.content?.image ? { ...message, content: { image: Buffer.from(message.content.image).toString("base64") } } : message;

const SAMPLES = 200;
const utf8 = new TextEncoder();

/**
 * Returns the nanoseconds per message of each function, the best of many short rounds. The rounds alternate,
 * so that other programs affect all functions alike.
 */
function times(...works) {
  const best = works.map(() => Infinity);
  for (let round = 0; round < 1500; round++) {
    for (const [n, [work, inputs]] of works.entries()) {
      const start = process.hrtime.bigint();
      for (const input of inputs) work(input);
      best[n] = Math.min(best[n], Number(process.hrtime.bigint() - start) / inputs.length);
    }
  }
  return best;
}

const rows = [];
for (const [name, make] of Object.entries(messages)) {
  const samples = Array.from({ length: name === "page of history" ? 20 : SAMPLES }, (_, n) => make(n));
  const plain = samples.map(asBase64);
  const texts = plain.map(json.encode);
  const frames = samples.map((sample) => msgpack.encode(sample).buffer);
  const bytes = (list, size) => list.reduce((sum, one) => sum + size(one), 0) / list.length;
  const [jsonBytes, packedBytes] = [bytes(texts, (one) => utf8.encode(one).length), bytes(frames, (one) => one.byteLength)];
  const [jsonEncode, packedEncode] = times([json.encode, plain], [msgpack.encode, samples]);
  const [jsonDecode, packedDecode] = times([json.decode, texts], [msgpack.decode, frames]);
  rows.push({
    message: name,
    "bytes json": Math.round(jsonBytes),
    "bytes msgpack": Math.round(packedBytes),
    "encode json ns": Math.round(jsonEncode),
    "encode msgpack ns": Math.round(packedEncode),
    "encode ratio": Number((packedEncode / jsonEncode).toFixed(2)),
    "decode json ns": Math.round(jsonDecode),
    "decode msgpack ns": Math.round(packedDecode),
    "decode ratio": Number((packedDecode / jsonDecode).toFixed(2)),
  });
}
console.table(rows);
