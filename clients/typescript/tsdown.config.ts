import { type UserConfig, defineConfig } from "tsdown";

// Two packages' worth of files: one for whatever has a WebSocket of its own, one that brings its own for Node. What goes
// with it, which has no copy of the client in it. And one file for pages that have no bundler, which the program
// and the examples serve as `/hauyna.js`.
const npm: UserConfig = { format: ["esm", "cjs"], target: "es2022", dts: true, fixedExtension: false };

export default defineConfig([
  { ...npm, entry: "src/index.ts", platform: "neutral", clean: true },
  { ...npm, entry: "src/node.ts", platform: "node", clean: false },
  {
    ...npm,
    entry: ["src/stores.ts", "src/react.ts", "src/vue.ts", "src/svelte.ts", "src/testing.ts"],
    platform: "neutral",
    clean: false,
    deps: { neverBundle: ["hauyna", "react", "vue", "svelte", "svelte/reactivity", "svelte/store"] },
  },
  {
    entry: { hauyna: "src/index.ts" },
    outDir: "dist/page",
    format: "esm",
    target: "es2022",
    platform: "browser",
    dts: false,
    minify: true,
    clean: false,
    banner: "// Built from clients/typescript. MIT.",
  },
]);
