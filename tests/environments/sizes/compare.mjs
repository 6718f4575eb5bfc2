// Bundles the same page with each client, minified by esbuild for current browsers, and prints a table of
// sizes with gzip -9. The versions are pinned in package.json beside this file: npm run sizes in
// tests/environments.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { prepare } from "../support/environment.mjs";
import { ENTRIES, NOTES } from "./entries.mjs";

const folder = prepare("sizes");
const { build } = createRequire(join(folder, "package.json"))("esbuild");

const rows = [];
for (const [name, contents] of Object.entries(ENTRIES)) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: folder },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
  });
  const [{ contents: bytes }] = outputFiles;
  const { version } = JSON.parse(readFileSync(join(folder, "node_modules", name.split(" ")[0], "package.json"), "utf8"));
  rows.push({ name, version, minified: bytes.length, packed: gzipSync(bytes, { level: 9 }).length, note: NOTES[name] ?? "" });
}
rows.sort((one, other) => one.packed - other.packed);

const number = (value) => value.toLocaleString("en");
console.log("| client | version | minified | with gzip | |\n|---|---|---:|---:|---|");
for (const { name, version, minified, packed, note } of rows) {
  console.log(`| ${name} | ${version} | ${number(minified)} | ${number(packed)} | ${note} |`);
}
