// One application of the packed client's types, compiled by every TypeScript from 5.0 on, each with several
// settings. The libraries of TypeScript and the client's declarations are checked, too (`skipLibCheck:
// false`).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { prepare, run } from "./support/environment.mjs";

const folder = prepare("typescript");
const { devDependencies } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
const names = Object.keys(devDependencies);
const WITH_DOM = ["node10 with ES2020 and DOM", "bundler with ESNext and DOM", "bundler with ES2022 and workers"];
const WITHOUT = "node16 with ES2022 and no DOM";

// The oldest and the newest of each major version get all settings; the others take turns, for a library of
// pages takes seconds to check.
for (const [at, name] of names.entries()) {
  const all = ["typescript-5.0", "typescript-5.9", "typescript-6.0"].includes(name);
  const rows = [WITHOUT, ...(all ? WITH_DOM : [WITH_DOM[at % WITH_DOM.length]])];
  test(`${name.replace("typescript-", "TypeScript ")}: ${rows.join(", ")}`, async () => {
    const output = await run(folder, process.execPath, ["check.mjs", name, ...rows]);
    assert.equal(output.match(/: 0 faults/g)?.length, rows.length);
  });
}
