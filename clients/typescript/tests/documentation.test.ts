// Compiles the examples of the README and of the guides.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compile } from "svelte/compiler";
import ts from "typescript";
import { expect, test } from "vitest";
import { compileTemplate, parse } from "vue/compiler-sfc";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Matches the code of a file that a guide contains unchanged. */
const RECIPE = /<!-- recipe (\S+) -->\n```\w+\n([\s\S]*?)```/g;

test.each(["testing-applications.md"])("the recipes of %s are programs that the tests run", (file) => {
  const recipes = [...readFileSync(`${root}../../docs/${file}`, "utf8").matchAll(RECIPE)];
  expect(recipes.length).toBeGreaterThan(2);
  for (const [, name, code] of recipes) expect(code, name).toBe(readFileSync(`${root}../../${name}`, "utf8"));
});

const PAGES = [
  "tutorial",
  "client-typescript",
  "testing-applications",
  "react",
  "vue",
  "svelte",
  "server-rendering",
  "recipes",
  "moving-from-pusher",
  "moving-from-socket-io",
  "moving-from-supabase",
];
const GUIDES = ["README.md", ...PAGES.map((name) => `../../docs/${name}.md`)];

test("every example of the README and the guides compiles", { timeout: 120_000 }, () => {
  const names = new Map<string, string>();
  for (const guide of GUIDES) {
    const blocks = blocksOf(guide);
    expect(blocks.length, guide).toBeGreaterThan(0);
    const stem = guide.replace(/.*\/|\.md/g, "");
    for (const [n, { kind, text }] of blocks.entries()) {
      // A component contributes its script here. Its markup belongs to the next test.
      const script = /<script[^>]*>([^]*?)<\/script>/.exec(text)?.[1] ?? text;
      names.set(`${root}tests/${stem}-${n + 1}.${kind === "tsx" ? "tsx" : "ts"}`, `${script}\nexport {};\n`);
    }
  }
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const paths = { hauyna: [`${root}src/index.ts`], "hauyna/*": [`${root}src/*.ts`] };
  const relaxed = { ...options, noUnusedLocals: false, paths, jsx: ts.JsxEmit.ReactJSX, types: ["node", "svelte"] };
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

test.each(GUIDES)("the markup of the components in %s is valid", (guide) => {
  for (const { kind, text } of blocksOf(guide)) {
    if (kind === "svelte") expect(compile(text, { generate: "client" }).warnings.map(({ message }) => message)).toEqual([]);
    if (kind === "vue") expect(templateErrors(text)).toEqual([]);
  }
});

function blocksOf(guide: string): { kind: string; text: string }[] {
  const text = readFileSync(`${root}${guide}`, "utf8").replace(RECIPE, "");
  const all = [...text.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, kind, text]) => ({ kind: kind as string, text: text as string }));
  return all.filter(({ kind }) => ["ts", "tsx", "vue", "svelte"].includes(kind));
}

function templateErrors(text: string): unknown[] {
  const { descriptor, errors } = parse(text);
  const source = descriptor.template?.content ?? "";
  return [...errors, ...compileTemplate({ source, filename: "Example.vue", id: "example" }).errors];
}

test("the links of the README work on npm", () => {
  const links = [...readFileSync(`${root}README.md`, "utf8").matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
  const home = "https://github.com/hauyna/hauyna/blob/main/";
  const inside = links.filter((link) => link.startsWith(home)).map((link) => link.slice(home.length).replace(/#.*/, ""));
  expect(inside.length).toBeGreaterThan(1);
  expect(links.filter((link) => !/^(https:|#)/.test(link))).toEqual([]);
  expect(inside.filter((file) => !existsSync(`${root}../../${file}`))).toEqual([]);
});
