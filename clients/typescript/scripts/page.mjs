// Copies the built client for pages to the folder from which the program and the examples serve it. With
// `--check` it changes nothing, and fails if a file there differs.

import { readFileSync, writeFileSync } from "node:fs";

for (const file of ["hauyna.js", "hauyna-msgpack.js"]) {
  const built = readFileSync(new URL(`../dist/page/${file}`, import.meta.url), "utf8");
  const served = new URL(`../../../crates/hauyna-server/assets/${file}`, import.meta.url);
  if (!process.argv.includes("--check")) writeFileSync(served, built);
  else if (readFileSync(served, "utf8") !== built) {
    console.error(`crates/hauyna-server/assets/${file} differs from the build: npm run build && node scripts/page.mjs`);
    process.exit(1);
  }
}
