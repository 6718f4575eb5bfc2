// SvelteKit: an application whose layout makes a client with a relative address is built, rendered by the
// server, and goes on in the browser.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bin, prepare, run } from "./support/environment.mjs";
import { hydrated, rendered, startServer } from "./support/server.mjs";

const folder = prepare("sveltekit");

test("SvelteKit builds and renders a page with stores, which goes on from there", async () => {
  for (const built of [".svelte-kit", "build"]) rmSync(join(folder, built), { recursive: true, force: true });
  await run(folder, bin(folder, "vite"), ["build"]);
  const server = await startServer(folder, "build/index.js");
  try {
    assert.equal(await rendered(server.url), "connecting 0, loading");
    // Nobody answers the socket: that the page counts its attempts shows that it lives.
    assert.deepEqual((await hydrated(server.url, /connecting [1-9], loading/)) ?? [], []);
  } finally {
    server.stop();
  }
});
