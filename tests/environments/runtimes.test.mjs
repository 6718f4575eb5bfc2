// Deno and Bun, as npm packages bring them, and both builds in Node.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { EXPECTED, prepare, run } from "./support/environment.mjs";

const folder = prepare("runtimes");
const { arch } = process;
const deno = join(folder, `node_modules/@deno/linux-${arch}-glibc/deno`);
const bun = join(folder, `node_modules/@oven/bun-linux-${arch === "arm64" ? "aarch64" : arch}/bin/bun`);
const absent = (program) => !existsSync(program) && `npm has no ${program.split("/").at(-1)} for ${process.platform} ${arch}`;

test("Deno", { skip: absent(deno) }, async () => {
  const output = await run(folder, deno, ["run", "--no-prompt", "--node-modules-dir=manual", "main.mjs"]);
  assert.equal(output.trim(), EXPECTED);
});

test("Bun", { skip: absent(bun) }, async () => {
  assert.equal((await run(folder, bun, ["main.mjs"])).trim(), EXPECTED);
});

test("Node, as an ES module", async () => {
  assert.equal((await run(folder, process.execPath, ["main.mjs"])).trim(), EXPECTED);
});

test("Node, as CommonJS, with errors of either build", async () => {
  assert.equal((await run(folder, process.execPath, ["main.cjs"])).trim(), EXPECTED);
});
