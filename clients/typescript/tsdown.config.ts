import { type UserConfig, defineConfig } from "tsdown";

// The bundles of the package: the client for runtimes that have a WebSocket, the client for Node with its own
// WebSocket, and the other entries, which import the client instead of containing it. Two further files are
// for pages without a bundler, which the program and the examples serve: `/hauyna.js`, and
// `/hauyna-msgpack.js` with MessagePack.
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
