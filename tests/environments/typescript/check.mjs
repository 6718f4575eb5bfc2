// Compiles consumer.ts and entries.ts with one TypeScript. Takes the package's name and the names of the
// settings, by default all; prints what fails.

import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const [name, ...chosen] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(name);
const [major, minor] = ts.version.split(".").map(Number);
const { ModuleKind, ModuleResolutionKind } = ts;

const NODE10 = { module: ModuleKind.CommonJS, moduleResolution: ModuleResolutionKind.Node10 ?? ModuleResolutionKind.NodeJs };
const NODE16 = { module: ModuleKind.Node16, moduleResolution: ModuleResolutionKind.Node16 };
const BUNDLER = { module: ModuleKind.ESNext, moduleResolution: ModuleResolutionKind.Bundler };
const DOM = { lib: ["lib.es2020.d.ts", "lib.dom.d.ts"] };
const ROWS = {
  "node10 with ES2020 and DOM": { ...NODE10, ...DOM },
  "node16 with ES2022 and no DOM": { ...NODE16, lib: ["lib.es2022.d.ts"] },
  "bundler with ESNext and DOM": { ...BUNDLER, lib: ["lib.esnext.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"] },
  "bundler with ES2022 and workers": { ...BUNDLER, lib: ["lib.es2022.d.ts", "lib.webworker.d.ts"] },
};
const COMMON = {
  target: ts.ScriptTarget.ES2022,
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  verbatimModuleSyntax: false,
  skipLibCheck: false,
  noEmit: true,
  types: [],
  // TypeScript 6 warns of node10, which TypeScript 7 no longer has.
  ...(major === 6 && { ignoreDeprecations: "6.0" }),
};

let failures = 0;
const libraries = new Map();
for (const row of chosen.length > 0 ? chosen : Object.keys(ROWS)) {
  const options = { ...COMMON, ...ROWS[row] };
  // Of node10 nobody resolves entries.
  const files = row.startsWith("node10") ? ["consumer.ts"] : ["consumer.ts", "entries.ts"];
  const program = ts.createProgram(files.map((file) => join(folder, file)), options, compilerHost(options));
  const faults = ts.getPreEmitDiagnostics(program);
  failures += faults.length;
  const host = { getCurrentDirectory: () => folder, getCanonicalFileName: (file) => file, getNewLine: () => "\n" };
  console.log(`TypeScript ${ts.version}, ${row}: ${faults.length} faults`);
  if (faults.length > 0) console.log(ts.formatDiagnostics(faults, host));
}
process.exitCode = failures > 0 || !(major >= 5 && minor >= 0) ? 1 : 0;

/** Reads each of TypeScript's libraries once. */
function compilerHost(options) {
  const host = ts.createCompilerHost(options);
  const { getSourceFile } = host;
  host.getSourceFile = (file, ...rest) => {
    if (!/\/lib\.[^/]*\.d\.ts$/.test(file)) return getSourceFile(file, ...rest);
    if (!libraries.has(file)) libraries.set(file, getSourceFile(file, ...rest));
    return libraries.get(file);
  };
  return host;
}
