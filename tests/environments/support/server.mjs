// What frameworks that render on a server are held to: their program is started, and its page is asked for.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { openPage } from "./chromium.mjs";

/** Starts a program of Node that listens where `PORT` says. `stop` ends it. */
export async function startServer(folder, script, env = {}) {
  const port = await freePort();
  const host = "127.0.0.1";
  const server = spawn(process.execPath, [script], {
    cwd: folder,
    env: { ...process.env, NO_COLOR: "1", HOST: host, PORT: String(port), ...env },
  });
  let said = "";
  const listens = new Promise((resolve, reject) => {
    const hear = (bytes) => {
      said += bytes;
      if (/listening/i.test(said)) resolve();
    };
    server.stdout.on("data", hear);
    server.stderr.on("data", hear);
    server.on("exit", () => reject(new Error(`${script} ended: ${said}`)));
  });
  await listens;
  return { url: `http://${host}:${port}`, stop: () => server.kill() };
}

/** What stands in the first paragraph of a page, as the server has rendered it. */
export async function rendered(url) {
  const html = await (await fetch(url)).text();
  // Comments are marks of the framework.
  return /<p[^>]*>([^]*?)<\/p>/.exec(html.replaceAll(/<!--[^]*?-->/g, ""))?.[1].trim();
}

/** Opens a page in Chromium, waits for a text, and returns what the console says of hydration; undefined without Chromium. */
export async function hydrated(url, text) {
  const browser = await openPage();
  try {
    return browser.reason === undefined ? await browser.hydrate(url, text) : undefined;
  } finally {
    await browser.close();
  }
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}
