// The tests for the example of each binding: the same chat, built by Vite, with the program behind Vite's
// proxy. It is built for development, because React then mounts everything twice.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, rmSync } from "node:fs";
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

/** Returns an example's own Vite, and the settings that serve its page. */
async function viteOf(example, settings) {
  const root = fileURLToPath(new URL(`../../examples/${example}/`, import.meta.url));
  process.env.NODE_ENV = "development";
  const vite = await import(pathToFileURL(createRequire(`${root}package.json`).resolve("vite")));
  return { vite, common: { root, mode: "development", logLevel: "error", ...settings } };
}

/** Builds an example, and serves it with its proxy to this address. `settings` are more settings of Vite. */
export async function serve(example, target, settings = {}) {
  const { vite, common } = await viteOf(example, settings);
  const outDir = await mkdtemp(join(tmpdir(), `hauyna-${example}-`));
  await vite.build({ ...common, build: { outDir, emptyOutDir: true, minify: false } });
  const server = await vite.preview({ ...common, build: { outDir }, preview: listening(target) });
  const stop = async () => {
    await server.close();
    rmSync(outDir, { recursive: true, force: true });
  };
  return { url: server.resolvedUrls.local[0].replace(/\/$/, ""), stop };
}

function listening(target) {
  return { port: 0, host: "127.0.0.1", proxy: { "/chat": { target, ws: true } } };
}

/** Returns the messages in the room, in order: name, text, state. */
function transcript({ page }) {
  return page.$$eval("[data-testid=message]", (items) =>
    items.map((item) => `${item.dataset.user}: ${item.querySelector("[data-testid=text]").textContent} (${item.dataset.state})`),
  );
}

/** Waits until the room shows these messages. */
async function reads(person, expected) {
  const last = person.page.getByTestId("message").nth(expected.length - 1);
  await last.waitFor().catch(() => {});
  for (let tries = 0; tries < 100; tries += 1) {
    if (isDeepStrictEqual(await transcript(person), expected)) return;
    await person.page.evaluate(() => new Promise(requestAnimationFrame));
  }
  assert.deepEqual(await transcript(person), expected);
}

/** Counts the sockets of a page to the program, and the requests on them. */
function overhear(page) {
  const heard = { sockets: 0, asked: [] };
  page.on("websocket", (socket) => {
    if (!socket.url().includes("/chat")) return; // Vite's own
    heard.sockets += 1;
    socket.on("framesent", ({ payload }) => heard.asked.push(JSON.parse(payload).type));
  });
  return heard;
}

/** Tests that a hot reload of the components keeps the socket, the subscription and the messages. */
export function testHotReload(example, extension) {
  test(`${example}: a hot reload opens no second socket and asks for nothing again`, { timeout: 90_000 }, async () => {
    const server = await startServer();
    const { vite, common } = await viteOf(example, {});
    const dev = await vite.createServer({ ...common, server: listening(server.url) });
    await dev.listen();
    const browser = await startBrowser();
    try {
      const page = await browser.newPage();
      const heard = overhear(page);
      const person = new Person(page, "Ann");
      // Vite may reload the first visit after it has found the dependencies that it has to prepare.
      await page.goto(`${dev.resolvedUrls.local[0]}?name=Ann`);
      await person.is("connected");
      await page.reload();
      await person.is("connected");
      await person.say("before");
      await reads(person, ["Ann: before (sent)"]);
      const before = { sockets: heard.sockets, subscriptions: heard.asked.filter((type) => type.includes("subscribe")).length };
      for (const component of ["Room", "App", "Room"]) {
        const file = join(common.root, "src", `${component}.${extension}`);
        // Change something else than the text, which the page shows.
        const module = [...dev.moduleGraph.getModulesByFile(file)].find(({ url }) => !url.includes("raw"));
        const updated = page.waitForEvent("console", (line) => line.text().includes("hot updated"));
        await dev.reloadModule(module);
        await updated;
      }
      await person.say("after");
      await reads(person, ["Ann: before (sent)", "Ann: after (sent)"]);
      const after = { sockets: heard.sockets, subscriptions: heard.asked.filter((type) => type.includes("subscribe")).length };
      assert.deepEqual(after, before);
      assert.deepEqual(person.faults, []);
    } finally {
      await browser.close();
      await dev.close();
      await server.stop();
    }
  });
}

/** Declares the tests of one example. */
export function testExample(example, { title = example, settings } = {}) {
  const world = {};

  before(async () => {
    world.server = await startServer();
    world.wire = await Wire.to(world.server.port);
    world.pages = await serve(example, world.wire.url, settings);
    world.browser = await startBrowser();
  });

  after(async () => {
    await world.browser?.close();
    await world.pages?.stop();
    world.wire?.close();
    assert.equal(await world.server?.stop(), 0, "the server ends cleanly on SIGTERM");
  });

  testTalking(title, world);
  testTunnel(title, world);
  testOlder(title, world);
  testOneSocket(title, world, example);
}

function testTalking(title, world) {
  test(`${title}: two people talk, and each message is there at once and once`, async () => {
    const { browser, pages } = world;
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
    await ann.page.getByText("Here now: 1").waitFor({ timeout: 30_000 }); // the session is kept for a while
    assert.deepEqual([...ann.faults, ...bob.faults], []);
    await ann.page.context().close();
  });
}

function testTunnel(title, world) {
  test(`${title}: what is written without a connection waits, and what was missed comes before it`, async () => {
    const { browser, pages, wire } = world;
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
}

function testOlder(title, world) {
  test(`${title}: older messages are loaded on demand, and a room keeps its own`, async () => {
    const { browser, pages } = world;
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
    // Switch routes quickly, back and forth.
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
}

/** Checks that the code on the page exists in its files. */
async function showsCode(person, example) {
  const code = await person.at("code").locator("pre").textContent();
  const folder = fileURLToPath(new URL(`../../examples/${example}/src/`, import.meta.url));
  const files = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  const real = new Set(files.flatMap((text) => text.split("\n").map((line) => line.trim())));
  const shown = code.split("\n").filter((line) => /[;{]$/.test(line)).map((line) => line.trim());
  assert.ok(shown.length > 8, code);
  assert.deepEqual(shown.filter((line) => !real.has(line)), []);
}

function testOneSocket(title, world, example) {
  test(`${title}: one page opens one socket and asks once for each channel, and fits a phone`, async () => {
    const { browser, pages } = world;
    const context = await browser.newContext(PHONE);
    const page = await context.newPage();
    const heard = overhear(page);
    const phone = new Person(page, "Phone");
    await page.goto(`${pages.url}/?name=Phone`);
    await phone.is("connected");
    await page.getByText("number 25").waitFor();
    assert.equal(heard.sockets, 1);
    const count = (type) => heard.asked.filter((other) => other === type).length;
    assert.deepEqual([count("subscribe_channel"), count("unsubscribe_channel"), count("history")], [1, 0, 1]);
    await fits(phone, title);
    await showsCode(phone, example);
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
