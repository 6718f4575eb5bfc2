// The examples of the README and of the guides are programs that the compiler takes.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compile } from "svelte/compiler";
import ts from "typescript";
import { beforeAll, expect, test } from "vitest";
import { compileTemplate, parse } from "vue/compiler-sfc";

const root = fileURLToPath(new URL("..", import.meta.url));

const CLIENT = ["README.md", "../../docs/client-typescript.md"];
const BINDINGS = ["react", "vue", "svelte", "server-rendering"].map((page) => `../../docs/${page}.md`);
const blocks = new Map([...CLIENT, ...BINDINGS].map((file) => [file, blocksOf(file)]));
let faults: string[];

beforeAll(() => {
  faults = faultsIn(blocks);
}, 120_000);

test.each([...CLIENT, ...BINDINGS])("the compiler takes the examples of %s", (file) => {
  expect(blocks.get(file)?.length).toBeGreaterThan(2);
  expect(faults.filter((fault) => fault.startsWith(nameOf(file)))).toEqual([]);
});

test("nothing else is wrong with the examples", () => {
  expect(faults).toEqual([]);
});

test.each(BINDINGS)("the markup in %s is valid", (file) => {
  for (const { kind, text } of blocks.get(file) as Block[]) {
    if (kind === "svelte") expect(compile(text, { generate: "client" }).warnings.map(({ message }) => message)).toEqual([]);
    if (kind === "vue") expect(templateErrors(text)).toEqual([]);
  }
});

interface Block {
  readonly kind: string;
  readonly text: string;
}

function blocksOf(file: string): Block[] {
  const text = readFileSync(`${root}${file}`, "utf8");
  const all = [...text.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, kind, text]) => ({ kind: kind as string, text: text as string }));
  return all.filter(({ kind }) => ["ts", "tsx", "vue", "svelte"].includes(kind));
}

function templateErrors(text: string): unknown[] {
  const { descriptor, errors } = parse(text);
  const source = descriptor.template?.content ?? "";
  return [...errors, ...compileTemplate({ source, filename: "Example.vue", id: "example" }).errors];
}

function nameOf(file: string): string {
  return `tests/example-${file.replaceAll(/[^\w]/g, "")}-`;
}

/** What the compiler says against these blocks, each a module of its own; of a component, against its script. */
function faultsIn(blocks: Map<string, Block[]>): string[] {
  const names = new Map<string, string>();
  for (const [file, all] of blocks) {
    for (const [n, { kind, text }] of all.entries()) {
      const script = /<script[^>]*>([^]*?)<\/script>/.exec(text)?.[1] ?? text;
      names.set(`${root}${nameOf(file)}${n}.${kind === "tsx" ? "tsx" : "ts"}`, `${script}\nexport {};\n`);
    }
  }
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const entries = Object.entries({ hauyna: "index", "hauyna/react": "react", "hauyna/vue": "vue", "hauyna/svelte": "svelte" });
  const paths = Object.fromEntries(entries.map(([name, file]) => [name, [`${root}src/${file}.ts`]]));
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
  return ts.getPreEmitDiagnostics(program).map((fault) => {
    return `${fault.file?.fileName.slice(root.length)}: ${ts.flattenDiagnosticMessageText(fault.messageText, "\n")}`;
  });
}

test("the links of the README work where npm shows it", () => {
  const links = [...readFileSync(`${root}README.md`, "utf8").matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string);
  const home = "https://github.com/hauyna/hauyna/blob/main/";
  const inside = links.filter((link) => link.startsWith(home)).map((link) => link.slice(home.length).replace(/#.*/, ""));
  expect(inside.length).toBeGreaterThan(1);
  expect(links.filter((link) => !/^(https:|#)/.test(link))).toEqual([]);
  expect(inside.filter((file) => !existsSync(`${root}../../${file}`))).toEqual([]);
});
