// Measures the time from a frame that a socket delivers to the application's listener: for this client with
// JSON and MessagePack, for phoenix and for socket.io-client, all in one run on the same content. The rounds
// take turns, and the fastest round of each counts, so that another program on the machine disturbs all of
// them alike.
//
// npm run decode in tests/environments; --rounds N (default 9), --frames N (default 50,000 a round).

import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { prepare } from "../support/environment.mjs";
import { CLIENTS } from "./decode-clients.mjs";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "9" }, frames: { type: "string", default: "50000" } } });
const rounds = Number(values.rounds);
const frames = Number(values.frames);

/** Bundles the other clients as for a page, where all of them take the page's WebSocket. */
async function load(name) {
  const folder = prepare("sizes");
  const { build } = createRequire(join(folder, "package.json"))("esbuild");
  const outfile = fileURLToPath(new URL(`build/${name}.mjs`, import.meta.url));
  await build({
    stdin: { contents: `export * from "${name}";`, resolveDir: folder },
    bundle: true,
    outfile,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
  });
  return import(outfile);
}

/** What is published: a chat message as applications send it. */
function contents(offset) {
  return { id: `m-${offset}`, author: "ana", text: "Are we still meeting at half past seven? I am bringing cake.", at: 1_700_000_000_000 + offset };
}

/** Delivers the frames of one round and returns nanoseconds a message, once the listener has heard all of them. */
async function measure({ deliver, heard }, written) {
  const begin = process.hrtime.bigint();
  const before = heard.count;
  for (const frame of written) deliver(frame);
  while (heard.count < before + written.length) await new Promise((resolve) => setImmediate(resolve));
  return Number(process.hrtime.bigint() - begin) / written.length;
}

const clients = [];
for (const { name, start } of CLIENTS) clients.push({ name, best: Infinity, bytes: 0, ...(await start(load)) });
let offset = 0;
for (let round = 0; round < rounds; round++) {
  const all = Array.from({ length: frames }, (_, n) => [offset + n + 1, contents(offset + n + 1)]);
  offset += frames;
  for (const client of clients) {
    const written = all.map(([at, content]) => client.frame(at, content));
    client.bytes = written[0].byteLength ?? written[0].length;
    client.best = Math.min(client.best, await measure(client, written));
  }
}
const own = clients[0].best;
console.log(`Node ${process.version}, ${rounds} rounds of ${frames} messages; the fastest round of each\n`);
console.log("| client | microseconds a message | beside hauyna, JSON | bytes a frame |\n|---|---:|---:|---:|");
for (const { name, best, bytes } of clients) {
  console.log(`| ${name} | ${(best / 1000).toFixed(2)} | ${(best / own).toFixed(2)} | ${bytes} |`);
}
process.exit(0);
