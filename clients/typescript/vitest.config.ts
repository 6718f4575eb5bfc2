import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Svelte has two builds: one for pages, which only its own tests use, and one for rendering servers.
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
// No test depends on the speed of the machine, so polling may take nearly as long as a test.
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
