// The examples of the README and of the guide are programs that the compiler takes.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The code of a file, which stands in a guide as it is. */
const RECIPE = /<!-- recipe (\S+) -->\n```\w+\n([\s\S]*?)```/g;

test.each(["testing-applications.md"])("the recipes of %s are programs that the tests run", (file) => {
  const recipes = [...readFileSync(`${root}../../docs/${file}`, "utf8").matchAll(RECIPE)];
  expect(recipes.length).toBeGreaterThan(2);
  for (const [, name, code] of recipes) expect(code, name).toBe(readFileSync(`${root}../../${name}`, "utf8"));
});

const GUIDES = ["README.md", ...["client-typescript", "testing-applications", "recipes", "moving-from-pusher", "moving-from-socket-io", "moving-from-supabase"].map((name) => `../../docs/${name}.md`)];

test("the compiler takes every example of the README and the guides", { timeout: 120_000 }, () => {
  const names = new Map<string, string>();
  for (const guide of GUIDES) {
    const text = readFileSync(`${root}${guide}`, "utf8").replace(RECIPE, "");
    const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block]) => block as string);
    expect(blocks.length, guide).toBeGreaterThan(0);
    const stem = guide.replace(/.*\/|\.md/g, "");
    for (const [n, block] of blocks.entries()) names.set(`${root}tests/${stem}-${n + 1}.ts`, `${block}\nexport {};\n`);
  }
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const relaxed = { ...options, noUnusedLocals: false, paths: { hauyna: [`${root}src/index.ts`], "hauyna/*": [`${root}src/*.ts`] } };
  const host = ts.createCompilerHost(relaxed);
  const { readFile, fileExists, getSourceFile } = host;
  host.readFile = (name) => names.get(name) ?? readFile(name);
  host.fileExists = (name) => names.has(name) || fileExists(name);
  host.getSourceFile = (name, target) => {
    const own = names.get(name);
    return own === undefined ? getSourceFile(name, target) : ts.createSourceFile(name, own, target);
  };
  const program = ts.createProgram([...names.keys()], relaxed, host);
  const faults = ts.getPreEmitDiagnostics(program).map((fault) => {
    return `${fault.file?.fileName.slice(root.length)}: ${ts.flattenDiagnosticMessageText(fault.messageText, "\n")}`;
  });
  expect(faults).toEqual([]);
});

test("the links of the README work where npm shows it", () => {
  const links = [...readFileSync(`${root}README.md`, "utf8").matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
  const home = "https://github.com/hauyna/hauyna/blob/main/";
  const inside = links.filter((link) => link.startsWith(home)).map((link) => link.slice(home.length).replace(/#.*/, ""));
  expect(inside.length).toBeGreaterThan(1);
  expect(links.filter((link) => !/^(https:|#)/.test(link))).toEqual([]);
  expect(inside.filter((file) => !existsSync(`${root}../../${file}`))).toEqual([]);
});
