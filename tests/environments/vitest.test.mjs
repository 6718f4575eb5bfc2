// Vitest in its environments for Node and for pages, and Vue's reactivity in each.

import { test } from "node:test";
import assert from "node:assert/strict";
import { bin, prepare, run } from "./support/environment.mjs";

const folder = prepare("vitest");
for (const environment of ["node", "jsdom", "happy-dom"]) {
  test(`Vitest, ${environment}, and Vue's ref and reactive`, async () => {
    const output = await run(folder, bin(folder, "vitest"), ["run", `--environment=${environment}`, "--root=."]);
    assert.match(output, /Tests +7 passed/);
  });
}
