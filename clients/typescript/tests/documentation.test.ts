// The examples of the README and of the guide are programs that the compiler takes.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

test.each(["README.md", "../../docs/client-typescript.md"])("%s", (file) => {
  const text = readFileSync(`${root}${file}`, "utf8");
  const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block]) => block as string);
  expect(blocks.length).toBeGreaterThan(2);
  const names = new Map(blocks.map((block, n) => [`${root}tests/example-${n}.ts`, `${block}\nexport {};\n`]));
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const relaxed = { ...options, noUnusedLocals: false, paths: { hauyna: [`${root}src/index.ts`] } };
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
