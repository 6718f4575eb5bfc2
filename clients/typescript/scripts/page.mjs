// Puts the client for pages, as the build leaves it, where the program and the examples serve it from. With `--check`
// it changes nothing, and fails where that file is another one.

import { readFileSync, writeFileSync } from "node:fs";

const built = readFileSync(new URL("../dist/page/hauyna.js", import.meta.url), "utf8");
const served = new URL("../../../crates/hauyna-server/assets/hauyna.js", import.meta.url);
if (!process.argv.includes("--check")) writeFileSync(served, built);
else if (readFileSync(served, "utf8") !== built) {
  console.error("crates/hauyna-server/assets/hauyna.js is not what the build gives: npm run build && node scripts/page.mjs");
  process.exit(1);
}
