import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Of Svelte there are two halves: that for pages is for its own tests alone, the other one renders on servers.
const pages = ["tests/svelte.test.ts"];
const common = {
  plugins: [svelte({ configFile: false })],
  resolve: {
    alias: [
      { find: /^hauyna$/, replacement: fileURLToPath(new URL("src/index.ts", import.meta.url)) },
      { find: /^hauyna\/(.+)$/, replacement: fileURLToPath(new URL("src/$1.ts", import.meta.url)) },
    ],
  },
};
// No test depends on how fast the machine is: what is polled for may take as long as a test.
const patient = { testTimeout: 20_000, expect: { poll: { timeout: 15_000 } } };

export default defineConfig({
  test: {
    projects: [
      { ...common, test: { name: "client", include: ["tests/**/*.test.ts"], exclude: pages, ...patient } },
      {
        ...common,
        resolve: { ...common.resolve, conditions: ["browser"] },
        test: { name: "svelte", include: pages, ...patient, server: { deps: { inline: ["svelte"] } } },
      },
    ],
  },
});
