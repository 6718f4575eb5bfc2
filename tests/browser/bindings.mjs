// What the example of each binding is held to: the same chat, built by Vite, on the program, behind Vite's proxy. Built
// for development, for then React mounts everything twice.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { violations } from "./accessible.mjs";
import { PHONE, Person, fits, startBrowser, startServer } from "./support.mjs";
import { Wire } from "./wire.mjs";

/** Builds an example, and serves it with its proxy to this address. `settings` are further ones of Vite. */
export async function serve(example, target, settings = {}) {
  const root = fileURLToPath(new URL(`../../examples/${example}/`, import.meta.url));
  const vite = await import(pathToFileURL(createRequire(`${root}package.json`).resolve("vite")));
  const outDir = await mkdtemp(join(tmpdir(), `hauyna-${example}-`));
  process.env.NODE_ENV = "development";
  const common = { root, mode: "development", logLevel: "warn", ...settings };
  await vite.build({ ...common, build: { outDir, emptyOutDir: true, minify: false } });
  const proxy = { "/chat": { target, ws: true } };
  const server = await vite.preview({ ...common, build: { outDir }, preview: { port: 0, host: "127.0.0.1", proxy } });
  const stop = async () => {
    await server.close();
    rmSync(outDir, { recursive: true, force: true });
  };
  return { url: server.resolvedUrls.local[0].replace(/\/$/, ""), stop };
}

/** What stands in the room, in its order: name, text, state. */
function transcript({ page }) {
  return page.$$eval("[data-testid=message]", (items) =>
    items.map((item) => `${item.dataset.user}: ${item.querySelector("[data-testid=text]").textContent} (${item.dataset.state})`),
  );
}

/** Waits until this is what stands in the room. */
async function reads(person, expected) {
  const last = person.page.getByTestId("message").nth(expected.length - 1);
  await last.waitFor().catch(() => {});
  for (let tries = 0; tries < 100; tries += 1) {
    if (isDeepStrictEqual(await transcript(person), expected)) return;
    await person.page.evaluate(() => new Promise(requestAnimationFrame));
  }
  assert.deepEqual(await transcript(person), expected);
}

/** Declares the tests of one example. */
export function testExample(example, { title = example, settings } = {}) {
  let server;
  let wire;
  let pages;
  let browser;

  before(async () => {
    server = await startServer();
    wire = await Wire.to(server.port);
    pages = await serve(example, wire.url, settings);
    browser = await startBrowser();
  });

  after(async () => {
    await browser?.close();
    await pages?.stop();
    await wire?.close();
    assert.equal(await server?.stop(), 0, "the server ends cleanly on SIGTERM");
  });

  test(`${title}: two people talk, and each message is there at once and once`, async () => {
    const ann = await Person.visit(browser, pages.url, "Ann");
    const bob = await Person.visit(browser, pages.url, "Bob");
    await ann.at("people").getByText("Bob").waitFor();
    await ann.say("hello");
    await bob.page.getByText("hello").waitFor();
    await bob.say("hi", "how are you?");
    const all = ["Ann: hello (sent)", "Bob: hi (sent)", "Bob: how are you? (sent)"];
    await reads(ann, all);
    await reads(bob, all);
    await ann.shot(`${title.replaceAll(" ", "-")}`);
    await bob.at("message-input").pressSequentially("wri");
    await ann.shows("typing", "Bob is typing …");
    await bob.at("message-input").fill("");
    await bob.say("written");
    await reads(ann, [...all, "Bob: written (sent)"]);
    await ann.at("typing").filter({ hasText: /^$/ }).waitFor({ state: "attached" });
    await bob.page.close();
    await ann.page.getByText("Here now: 1").waitFor();
    assert.deepEqual([...ann.faults, ...bob.faults], []);
    await ann.page.context().close();
  });

  test(`${title}: what is written without a connection waits, and what was missed comes before it`, async () => {
    const cut = await Person.visit(browser, pages.url, "Cut");
    const other = await Person.visit(browser, pages.url, "Other");
    for (const person of [cut, other]) await person.page.getByRole("button", { name: "tea" }).click();
    await cut.at("people").getByText("Other").waitFor();
    await cut.page.context().setOffline(true);
    wire.cut();
    await cut.page.locator("[data-testid=state]:not([data-state=connected])").waitFor();
    await cut.say("from the tunnel");
    await reads(cut, ["Cut: from the tunnel (pending)"]);
    await other.is("connected");
    await other.say("you are missed");
    await reads(other, ["Other: you are missed (sent)"]);
    await cut.page.context().setOffline(false);
    await cut.is("connected");
    const all = ["Other: you are missed (sent)", "Cut: from the tunnel (sent)"];
    await reads(cut, all);
    await reads(other, all);
    assert.equal(await cut.at("gap").count(), 0);
    for (const person of [cut, other]) await person.page.context().close();
  });

  test(`${title}: older messages are loaded on demand, and a room keeps its own`, async () => {
    const writer = await Person.visit(browser, pages.url, "Writer");
    const texts = Array.from({ length: 25 }, (_, n) => `number ${n + 1}`);
    await writer.say(...texts);
    await writer.page.locator("[data-state=sent]", { hasText: "number 25" }).waitFor();
    await writer.page.reload();
    await writer.page.getByText("number 25").waitFor();
    assert.equal((await transcript(writer)).length, 10);
    await writer.at("older").click();
    await writer.page.getByText("number 6", { exact: true }).waitFor();
    assert.equal((await transcript(writer)).length, 20);
    // Fast routes, back and forth.
    for (const room of ["tea", "general", "tea", "general", "tea"]) await writer.page.getByRole("button", { name: room }).click();
    await writer.page.getByText("you are missed").waitFor();
    assert.equal((await transcript(writer)).length, 2);
    await writer.page.getByRole("button", { name: "general" }).click();
    await writer.page.getByText("number 25").waitFor();
    while (await writer.at("older").count()) await writer.at("older").click({ timeout: 5_000 }).catch(() => {});
    const first = ["Ann: hello (sent)", "Bob: hi (sent)", "Bob: how are you? (sent)", "Bob: written (sent)"];
    await reads(writer, [...first, ...texts.map((text) => `Writer: ${text} (sent)`)]);
    assert.deepEqual(writer.faults, []);
    await writer.page.context().close();
  });

  test(`${title}: one page opens one socket and asks once for each channel, and fits a phone`, async () => {
    const context = await browser.newContext(PHONE);
    const page = await context.newPage();
    const asked = [];
    let sockets = 0;
    page.on("websocket", (socket) => {
      sockets += 1;
      socket.on("framesent", ({ payload }) => asked.push(JSON.parse(payload).type));
    });
    const phone = new Person(page, "Phone");
    await page.goto(`${pages.url}/?name=Phone`);
    await phone.is("connected");
    await page.getByText("number 25").waitFor();
    assert.equal(sockets, 1);
    const count = (type) => asked.filter((other) => other === type).length;
    assert.deepEqual([count("subscribe_channel"), count("unsubscribe_channel"), count("history")], [1, 0, 1]);
    await fits(phone, example);
    await phone.shot(`${title.replaceAll(" ", "-")}-phone`);
    const found = [];
    for (const viewport of [PHONE.viewport, { width: 1120, height: 760 }]) {
      await page.setViewportSize(viewport);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        found.push(...(await violations(phone, `${viewport.width}, ${colorScheme}`)));
      }
    }
    assert.deepEqual(found, []);
    assert.deepEqual(phone.faults, []);
    await context.close();
  });
}
