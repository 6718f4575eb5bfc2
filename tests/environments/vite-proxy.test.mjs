// Development with Vite, as docs/vite.md says: the page comes from Vite's server, and its WebSocket goes
// through Vite's proxy to the program, which takes connections of its own origin only.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openPage } from "./support/chromium.mjs";
import { prepare } from "./support/environment.mjs";

const program = process.env["HAUYNA_BIN"] ?? fileURLToPath(new URL("../../target/release/hauyna", import.meta.url));

test("a page of Vite's server reaches the program through the proxy", async (t) => {
  if (!existsSync(program)) return t.skip("needs cargo build --release --package hauyna-server");
  const page = await openPage();
  if (page.reason) return t.skip(page.reason);
  t.after(() => page.close());
  const { address, stop } = await startProgram();
  t.after(stop);
  const folder = prepare("bundlers");
  const { createServer } = await import(join(folder, "node_modules/vite/dist/node/index.js"));
  const vite = await createServer({
    root: join(folder, "dev"),
    configFile: false,
    logLevel: "error",
    cacheDir: join(folder, "build/vite"),
    server: { host: "127.0.0.1", port: 0, hmr: false, proxy: { "/chat": { target: `http://${address}`, ws: true } } },
  });
  await vite.listen();
  t.after(() => vite.close());
  const { port } = vite.httpServer.address();
  assert.equal(await page.visit(`http://127.0.0.1:${port}/`, () => globalThis.chatResult), "ana: through the proxy");
});

/** Starts the program on a port of its own. */
async function startProgram() {
  const child = spawn(program, ["serve", "--listen", "127.0.0.1:0", "--metrics", "off"], { stdio: ["ignore", "pipe", "pipe"] });
  const address = await new Promise((resolve, reject) => {
    let said = "";
    const hear = (bytes) => {
      said += bytes;
      const found = /127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("exit", () => reject(new Error(`the program ended: ${said}`)));
  });
  return { address, stop: () => child.kill() };
}
