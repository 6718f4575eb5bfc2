// Pages that share one socket through a shared worker, in a real browser with the program: all pages see the
// same, and the subscriptions of a closed page end.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startBrowser, startServer } from "./support.mjs";
import { Wire } from "./wire.mjs";

const BUILT = fileURLToPath(new URL("../../clients/typescript/dist/", import.meta.url));
const isBuilt = existsSync(`${BUILT}shared.js`);
let server, browser, files, origin, insecure;

before(async () => {
  if (!isBuilt) return;
  browser = await startBrowser(["--host-resolver-rules=MAP pages.test 127.0.0.1"]);
  // Workers have no import map, so replace the name of the package, as a bundler does.
  const script = (name) => readFileSync(`${BUILT}${name}`, "utf8").replace(/from "hauyna"/g, 'from "/index.js"');
  files = createServer(({ url }, response) => {
    const [path] = url.split("?");
    const worker = 'import { serveTabs } from "/shared.js"; serveTabs();';
    const body = path === "/" ? "<!doctype html><title>shared</title>" : path === "/worker.js" ? worker : /^\/(index|shared)\.js$/.test(path) ? script(path.slice(1)) : undefined;
    response.writeHead(body === undefined ? 404 : 200, { "content-type": path === "/" ? "text/html" : "text/javascript" });
    response.end(body);
  }).listen(0, "127.0.0.1");
  await once(files, "listening");
  origin = `http://localhost:${files.address().port}`;
  insecure = `http://pages.test:${files.address().port}`;
  server = await startServer(0, ["--dev", "--origin", insecure]);
});

after(async () => {
  await browser?.close();
  files?.close();
  await server?.stop();
});

/** Opens a page with a connected shared client; `globalThis.open(name)` subscribes to a channel. */
async function enter(context, url, user, { worker = "/worker.js", hasWorkers = true, from = origin, name = user } = {}) {
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(error));
  await page.goto(from);
  await page.evaluate(
    async ([url, user, worker, hasWorkers, name]) => {
      if (!hasWorkers) delete globalThis.SharedWorker;
      const { sharedClient } = await import("/shared.js");
      const retry = { baseDelay: 50, maxDelay: 200, backoffMultiplier: 2 };
      const make = () => new SharedWorker(worker, { type: "module", name });
      globalThis.client = sharedClient(`${url}/chat?user_id=${user}`, { worker: make, retry });
      globalThis.heard = {};
      globalThis.gaps = [];
      client.onGap(({ reason }) => gaps.push(reason));
      globalThis.open = async (name, options) => {
        const room = client.channel(name);
        room.on("message", ({ content }) => (heard[name] ??= []).push(content));
        await room.subscribe(options);
        return room;
      };
      await client.connect();
    },
    [url, user, worker, hasWorkers, name],
  );
  return page;
}

const open = (page, name) => page.evaluate((name) => open(name).then(({ position }) => position), name);
const say = (page, name, text, options) => page.evaluate(([n, t, o]) => client.channel(n).publish(t, o), [name, text, options]);
const heard = (page, name) => page.evaluate((name) => heard[name] ?? [], name);
const hears = (page, name, count) => page.waitForFunction(([name, count]) => (heard[name] ?? []).length >= count, [name, count]);
/** Returns the number of a user's connections in a channel, as this page sees it. */
const connections = (page, name, user) => page.evaluate(([n, u]) => client.channel(n).presence.users.get(u)?.connections ?? 0, [name, user]);
const sees = (page, name, user, count) =>
  page.waitForFunction(([n, u, count]) => (client.channel(n).presence.users.get(u)?.connections ?? 0) === count, [name, user, count]);

test("pages share one socket, and each has its own subscriptions", { skip: !isBuilt, timeout: 60_000 }, async () => {
  const wire = await Wire.to(server.port);
  const [home, away] = [await browser.newContext(), await browser.newContext()];
  const bob = await enter(away, server.url, "bob");
  await open(bob, "room:both");
  await open(bob, "room:two");
  const one = await enter(home, wire.url, "ana");
  await open(one, "room:both");
  await say(one, "room:both", "early");
  const two = await enter(home, wire.url, "ana");
  await open(two, "room:both");
  await open(two, "room:two");
  await sees(bob, "room:both", "ana", 1);
  assert.equal(await connections(two, "room:both", "bob"), 1, "the second page knows who is present, too");
  assert.equal(await one.evaluate(() => client.user), "ana");

  // All pages receive what one publishes; without an echo, all others do.
  await say(one, "room:both", "from one");
  await say(two, "room:both", "quietly from two", { echo: false });
  await say(bob, "room:both", "from bob");
  await say(bob, "room:two", "for two");
  await Promise.all([hears(one, "room:both", 4), hears(two, "room:both", 2), hears(two, "room:two", 1)]);
  assert.deepEqual(await heard(one, "room:both"), ["early", "from one", "quietly from two", "from bob"]);
  assert.deepEqual(await heard(two, "room:both"), ["from one", "from bob"]);
  assert.deepEqual(await heard(one, "room:two"), [], "it has not subscribed to it");
  const page = await two.evaluate(() => client.channel("room:both").history().then(({ messages }) => messages.length));
  assert.equal(page, 4);

  // When the network fails, both pages notice it and miss nothing.
  wire.isDown = true;
  wire.cut();
  for (const page of [one, two]) await page.waitForFunction(() => client.state.name === "reconnecting");
  await say(bob, "room:both", "missed");
  await one.evaluate(() => void (globalThis.unsent = client.channel("room:both").publish("unsent")));
  wire.isDown = false;
  for (const page of [one, two]) await page.waitForFunction(() => client.state.name === "connected");
  await one.evaluate(() => unsent);
  await Promise.all([hears(one, "room:both", 6), hears(two, "room:both", 4)]);
  assert.deepEqual((await heard(one, "room:both")).slice(4), ["missed", "unsent"]);
  assert.deepEqual((await heard(two, "room:both")).slice(2), ["missed", "unsent"]);
  for (const page of [one, two]) assert.deepEqual(await page.evaluate(() => gaps), []);

  // When a page closes without notice, its own subscription ends and the shared one stays.
  await sees(bob, "room:two", "ana", 1);
  await two.close();
  await sees(bob, "room:two", "ana", 0);
  assert.equal(await connections(bob, "room:both", "ana"), 1);
  await say(one, "room:both", "still here");
  await hears(bob, "room:both", 7);
  await one.evaluate(() => client.close());
  await sees(bob, "room:both", "ana", 0);
  await one.evaluate(() => client.connect().then(() => client.channel("room:both").publish("again")));
  await hears(bob, "room:both", 8);
  await Promise.all([home.close(), away.close()]);
  wire.close();
});

for (const [what, options] of [
  ["without shared workers", { hasWorkers: false }],
  ["whose worker's script is missing", { worker: "/none.js" }],
]) {
  test(`a browser ${what} has a socket for each page`, { skip: !isBuilt, timeout: 60_000 }, async () => {
    const context = await browser.newContext();
    const pages = [await enter(context, server.url, "eve", options), await enter(context, server.url, "eve", options)];
    for (const page of pages) await open(page, "room:alone");
    await sees(pages[0], "room:alone", "eve", 2);
    await say(pages[0], "room:alone", "hi");
    await hears(pages[1], "room:alone", 1);
    await context.close();
  });
}

test("pages of different users have a connection each, though their worker is the same", { skip: !isBuilt, timeout: 60_000 }, async () => {
  const context = await browser.newContext();
  const [ana, bob] = [await enter(context, server.url, "ana", { name: "" }), await enter(context, server.url, "bob", { name: "" })];
  assert.deepEqual(await Promise.all([ana, bob].map((page) => page.evaluate(() => client.user))), ["ana", "bob"]);
  await context.close();
});

for (const kind of ["secure", "insecure"]) {
  test(`on an origin that is ${kind}, a page that is closed or left${kind === "secure" ? ", or crashes," : ""} is noticed at once`, { skip: !isBuilt, timeout: 60_000 }, async () => {
    const [home, away] = [await browser.newContext(), await browser.newContext()];
    const from = kind === "secure" ? origin : insecure;
    const bob = await enter(away, server.url, "bob");
    const pages = [];
    for (const name of ["room:stays", "room:crashes", "room:left", "room:closed"]) {
      const page = await enter(home, server.url, "ana", { from });
      pages.push(page);
      await open(page, name);
      await open(bob, name);
      await sees(bob, name, "ana", 1);
    }
    assert.equal(await pages[0].evaluate(() => isSecureContext && navigator.locks !== undefined), kind === "secure");
    // Without locks only silence reveals a crash.
    if (kind === "secure") {
      void pages[1].goto("chrome://crash").catch(() => {});
      await sees(bob, "room:crashes", "ana", 0);
    }
    await pages[2].goto("about:blank");
    await sees(bob, "room:left", "ana", 0);
    await pages[3].close({ runBeforeUnload: true });
    await sees(bob, "room:closed", "ana", 0);
    assert.equal(await connections(bob, "room:stays", "ana"), 1);
    await Promise.all([home.close(), away.close()]);
  });
}

test("a page that comes back from the browser's cache goes on, and was not there meanwhile", { skip: !isBuilt, timeout: 60_000 }, async () => {
  const caching = await startBrowser([], ["--disable-back-forward-cache"]);
  const [home, away] = [await caching.newContext(), await caching.newContext()];
  const bob = await enter(away, server.url, "bob");
  await open(bob, "room:cached");
  const page = await enter(home, server.url, "ana");
  await page.evaluate(() => addEventListener("pageshow", ({ persisted }) => (globalThis.wasCached = persisted)));
  await open(page, "room:cached");
  await sees(bob, "room:cached", "ana", 1);
  await page.goto(`${origin}/?elsewhere`);
  await sees(bob, "room:cached", "ana", 0);
  await say(bob, "room:cached", "missed");
  await page.goBack({ waitUntil: "commit" });
  await hears(page, "room:cached", 1);
  assert.deepEqual(await page.evaluate(() => [wasCached, client.state.name, heard["room:cached"], gaps]), [true, "connected", ["missed"], []]);
  await caching.close();
});

test("where the worker is ended, the pages have a new one, and miss nothing", { skip: !isBuilt, timeout: 60_000 }, async () => {
  const [home, away] = [await browser.newContext(), await browser.newContext()];
  const bob = await enter(away, server.url, "bob");
  await open(bob, "room:worker");
  const pages = [await enter(home, server.url, "ana"), await enter(home, server.url, "ana")];
  for (const page of pages) await open(page, "room:worker");
  const session = await browser.newBrowserCDPSession();
  const { targetInfos } = await session.send("Target.getTargets");
  const workers = targetInfos.filter(({ type, browserContextId }) => type === "shared_worker" && browserContextId !== undefined);
  for (const { targetId } of workers) await session.send("Target.closeTarget", { targetId }).catch(() => {});
  await say(bob, "room:worker", "missed");
  await Promise.all(pages.map((page) => hears(page, "room:worker", 1)));
  for (const page of pages) assert.deepEqual([await heard(page, "room:worker"), await page.evaluate(() => gaps)], [["missed"], []]);
  await Promise.all([home.close(), away.close()]);
});
