import { type UserConfig, defineConfig } from "tsdown";

// Two packages' worth of files: one for whatever has a WebSocket of its own, one that brings its own for Node. What goes
// with it, in which there is no copy of it. And two files for pages that have no bundler, which the
// program and the examples serve: `/hauyna.js`, and `/hauyna-msgpack.js` for those that want MessagePack.
const npm: UserConfig = { format: ["esm", "cjs"], target: "es2022", dts: true, sourcemap: true, fixedExtension: false };

const page: UserConfig = {
  outDir: "dist/page",
  format: "esm",
  target: "es2022",
  platform: "browser",
  dts: false,
  minify: true,
  clean: false,
  banner: "// Built from clients/typescript. MIT.",
};

export default defineConfig([
  { ...npm, entry: "src/index.ts", platform: "neutral", clean: true },
  { ...npm, entry: "src/node.ts", platform: "node", clean: false },
  {
    ...npm,
    entry: ["src/stores.ts", "src/react.ts", "src/vue.ts", "src/svelte.ts", "src/testing.ts", "src/shared.ts"],
    platform: "neutral",
    clean: false,
    deps: { neverBundle: ["hauyna", "react", "vue", "svelte", "svelte/reactivity", "svelte/store"] },
  },
  { ...page, entry: { hauyna: "src/page.ts" } },
  { ...page, entry: { "hauyna-msgpack": "src/page-msgpack.ts" } },
]);
