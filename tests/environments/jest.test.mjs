// Jest 29 and 30, in their environments for Node and for pages. That for pages has no TextEncoder.

import { test } from "node:test";
import assert from "node:assert/strict";
import { bin, prepare, run } from "./support/environment.mjs";

for (const version of ["29", "30"]) {
  const folder = prepare(`jest${version}`);
  for (const environment of ["node", "jsdom"]) {
    test(`Jest ${version}, ${environment}`, async () => {
      const output = await run(folder, bin(folder, "jest"), [`--env=${environment}`, "--runInBand", "--rootDir=.", "--no-cache"]);
      assert.match(output, /Tests: +4 passed, 4 total/);
    });
  }
}
