// Fails if a bundle, minified and with gzip -9, is larger than its limit: the client, alone and for pages,
// and the entries of the bindings, without the client and the framework, each without and with the stores
// that all three share.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

const PAGE = 13_120;
const CORE = 13_020;
const BINDING = 1_500;
const STORES = 3_400;
const FRAMEWORK = /^(hauyna|react|vue|svelte)(\/|$)/;
const OWN_STORES = /\/stores(-[\w-]+)?\.js$/;

/** Returns the bundle of one entry of the package with its imports. */
async function bundled(entry, external) {
  const input = fileURLToPath(new URL(`../dist/${entry}.js`, import.meta.url));
  const bundle = await rolldown({ input, external, platform: "browser" });
  const { output } = await bundle.generate({ format: "esm", minify: true });
  return output.map(({ code }) => code).join("");
}

/** Returns the bundle of an application that only imports `Client` from `hauyna`. */
async function core() {
  const from = fileURLToPath(new URL("../dist/index.js", import.meta.url));
  const entry = { name: "entry", resolveId: (id) => (id === "entry" ? id : null), load: (id) => (id === "entry" ? `export { Client } from ${JSON.stringify(from)}` : null) };
  const bundle = await rolldown({ input: "entry", plugins: [entry], platform: "browser" });
  const { output } = await bundle.generate({ format: "esm", minify: true });
  return output[0].code;
}

let isTooLarge = false;
function weigh(what, text, limit) {
  const packed = gzipSync(text, { level: 9 }).length;
  console.log(`${what}: ${Buffer.byteLength(text)} bytes, ${packed} with gzip (limit ${limit})`);
  isTooLarge ||= packed > limit;
}

for (const entry of ["react", "vue", "svelte"]) {
  weigh(`hauyna/${entry}`, await bundled(entry, [FRAMEWORK, OWN_STORES]), BINDING);
  weigh(`hauyna/${entry} with the stores`, await bundled(entry, FRAMEWORK), BINDING + STORES);
}
weigh("hauyna/stores", await bundled("stores", FRAMEWORK), STORES);
weigh("the client alone", await core(), CORE);
weigh("hauyna.js", readFileSync(new URL("../dist/page/hauyna.js", import.meta.url), "utf8"), PAGE);
if (isTooLarge) process.exit(1);
