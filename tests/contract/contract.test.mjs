// The output of the contract in the Rust tests: the TypeScript compiler checks the module and its values, and
// the official schema checks the AsyncAPI document. The values marked as wrong must be errors, or the
// compiler fails.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { Ajv } from "ajv";

const here = fileURLToPath(new URL(".", import.meta.url));
const { resolve } = createRequire(import.meta.url);
const json = (path) => JSON.parse(readFileSync(path, "utf8"));

test("the compiler takes every value that serde takes or writes, and refuses the others", () => {
  const values = readFileSync(`${here}values.ts`, "utf8");
  assert.ok(values.split("@ts-expect-error").length > 40 && values.split("_good_").length > 30);
  execFileSync(process.execPath, [resolve("typescript/bin/tsc"), "--project", here], { stdio: "inherit" });
});

test("the AsyncAPI document keeps to the official schema of 3.0.0, which refuses a broken one", () => {
  // The schema contains its own copy of draft 7, which ajv must not add a second time.
  const ajv = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false });
  const isValid = ajv.compile(json(resolve("@asyncapi/specs/schemas/3.0.0.json")));
  const document = json(`${here}zoo.async-api.json`);
  assert.ok(isValid(document), JSON.stringify(isValid.errors));
  document.operations.receive_say.action = "listen";
  assert.ok(!isValid(document));
});
