// The page of examples/typed: it compiles against the generated types, a wrong field does not, and the served
// file is the compiler's output. `HAUYNA_BLESS=1` writes that file again.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import typescript from "typescript";

const page = fileURLToPath(new URL("../../examples/typed/page/", import.meta.url));
const wrong = fileURLToPath(new URL("page/", import.meta.url));
const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const compile = (project) => execFileSync(process.execPath, [compiler, "--project", project], { stdio: "inherit" });

test("the page compiles against the types that its program gives", () => compile(page));

test("a wrong name, field or type in a page is an error of the compiler", () => compile(wrong));

test("the page that is served is what the compiler makes of it", () => {
  const { target, module, verbatimModuleSyntax } = typescript.readConfigFile(`${page}tsconfig.json`, (path) =>
    readFileSync(path, "utf8"),
  ).config.compilerOptions;
  const compilerOptions = { target, module, verbatimModuleSyntax };
  const { outputText } = typescript.transpileModule(readFileSync(`${page}page.ts`, "utf8"), { compilerOptions });
  const text = `// Made of page.ts: change that file.\n${outputText}`;
  if (process.env.HAUYNA_BLESS) writeFileSync(`${page}page.js`, text);
  assert.equal(readFileSync(`${page}page.js`, "utf8"), text, "page.js is old: HAUYNA_BLESS=1 node --test");
});
