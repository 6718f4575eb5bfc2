import { defineConfig } from "vitest/config";

// No test depends on how fast the machine is: what is polled for may take as long as a test.
export default defineConfig({
  test: { include: ["tests/**/*.test.ts"], testTimeout: 20_000, expect: { poll: { timeout: 15_000 } } },
});
