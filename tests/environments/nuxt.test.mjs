// Nuxt: an application whose plugin makes a client with a relative address is built, rendered by the server,
// and goes on in the browser.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bin, prepare, run } from "./support/environment.mjs";
import { hydrated, rendered, startServer } from "./support/server.mjs";

const folder = prepare("nuxt");

test("Nuxt builds and renders a page with composables, which goes on from there", async () => {
  for (const built of [".nuxt", ".output"]) rmSync(join(folder, built), { recursive: true, force: true });
  await run(folder, bin(folder, "nuxt"), ["build"], { NUXT_TELEMETRY_DISABLED: "1" });
  const server = await startServer(folder, ".output/server/index.mjs");
  try {
    assert.equal(await rendered(server.url), "connecting 0, loading");
    // Nobody answers the socket: that the page counts its attempts shows that it lives.
    assert.deepEqual((await hydrated(server.url, /connecting [1-9], loading/)) ?? [], []);
  } finally {
    server.stop();
  }
});
