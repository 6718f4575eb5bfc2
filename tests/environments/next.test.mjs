// Next: a page whose module makes a client with a relative address is built, and rendered by the server.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { prepare, run } from "./support/environment.mjs";

const folder = prepare("next");
const next = createRequire(join(folder, "package.json")).resolve("next/dist/bin/next");
const env = { NEXT_TELEMETRY_DISABLED: "1", CI: "1" };

test("Next builds and renders a page whose module makes a client", async () => {
  rmSync(join(folder, ".next"), { recursive: true, force: true });
  await run(folder, process.execPath, [next, "build"], env);
  const chunks = join(folder, ".next/static/chunks");
  const scripts = readdirSync(chunks, { recursive: true }).filter((file) => file.endsWith(".js"));
  const ours = scripts.map((file) => readFileSync(join(chunks, file), "utf8")).filter((text) => text.includes("hauyna.v1.json"));
  assert.equal(ours.length, 1);
  assert.doesNotMatch(ours[0], /sec-websocket-accept/i, "Node's socket is in the page's bundle");
  const server = spawn(process.execPath, [next, "start", "--port", "0", "--hostname", "127.0.0.1"], {
    cwd: folder,
    env: { ...process.env, ...env, NO_COLOR: "1" },
  });
  try {
    const html = await (await fetch(await address(server))).text();
    assert.match(html, /room:1<!-- --> is <!-- -->closed/);
  } finally {
    server.kill();
  }
});

/** The address that the server says it listens on. */
function address(server) {
  return new Promise((resolve, reject) => {
    let said = "";
    const hear = (bytes) => {
      said += bytes;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found && /ready/i.test(said)) resolve(found[0]);
    };
    server.stdout.on("data", hear);
    server.stderr.on("data", hear);
    server.on("exit", () => reject(new Error(`next start ended: ${said}`)));
  });
}
