// The TypeScript client in a real browser: cut sockets, a page without a network, a sleeping tab, a restarted
// server. The tests use the chat page, or a page with only the client if the chat page does not show enough.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Person, startBrowser, startServer } from "./support.mjs";
import { Wire } from "./wire.mjs";

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0, "the server ends cleanly on SIGTERM");
});

/** Returns the joins and leaves that the others received. */
async function goings(person) {
  const notes = await person.at("note").allTextContents();
  return notes.filter((note) => / (left|came in)$/.test(note));
}

test("cutting the wire again and again shows nobody leaving, and every message comes once and in order", { timeout: 90_000 }, async () => {
  const wire = await Wire.to(server.port);
  const ann = await Person.enter(browser, server.url, "Ann");
  const bob = await Person.enter(browser, wire.url, "Bob");
  await ann.page.locator("[data-testid=person][data-user=Bob]").waitFor();
  const before = await goings(ann);
  const said = [];
  for (let round = 1; round <= 3; round += 1) {
    const gone = bob.page.locator("[data-testid=state]:not([data-state=connected])").waitFor({ state: "attached" });
    wire.cut();
    await gone;
    const texts = [1, 2, 3].map((n) => `round ${round}, number ${n}`);
    await ann.say(...texts);
    said.push(...texts.map((text) => `Ann: ${text}`));
    await bob.is("connected");
    await bob.sees(texts[2]);
  }
  // Longer than the 5 s for which users without a session stay present.
  wire.isDown = true;
  wire.cut();
  await bob.is("waiting");
  await ann.say("into the tunnel");
  said.push("Ann: into the tunnel");
  await ann.page.waitForTimeout(7_000);
  await ann.page.locator("[data-testid=person][data-user=Bob]").waitFor();
  wire.isDown = false;
  await bob.at("retry").click(); // by now the delays are long
  await bob.is("connected");
  await bob.sees("into the tunnel");
  await bob.say("still here");
  await ann.sees("still here");
  assert.deepEqual(await bob.transcript(), [...said, "Bob: still here"]);
  assert.deepEqual(await ann.transcript(), [...said, "Bob: still here"]);
  assert.deepEqual(await goings(ann), before, "nobody was seen to leave or to come");
  await ann.page.locator("[data-testid=person][data-user=Bob]").waitFor();
  await ann.shot("client-cut-seen-by-others");
  await bob.shot("client-cut");
  assert.deepEqual(ann.faults, []);
  wire.close();
});

test("a page that is offline waits, and has everything when it is online again", { timeout: 60_000 }, async () => {
  const cleo = await Person.enter(browser, server.url, "Cleo");
  const dan = await Person.enter(browser, server.url, "Dan");
  for (const person of [cleo, dan]) {
    await person.at("room-input").fill("offline");
    await person.at("room-join").click();
    await person.at("position").filter({ hasText: "position" }).waitFor({ state: "attached" });
  }
  await dan.page.context().setOffline(true);
  await dan.is("waiting");
  assert.equal(await dan.page.locator("#state-word").textContent(), "Offline, reconnecting");
  await cleo.say("one", "two");
  await cleo.sees("two");
  await dan.say("three, from the tunnel");
  await dan.shot("client-offline");
  await dan.page.context().setOffline(false);
  await dan.is("connected");
  await dan.sees("three, from the tunnel");
  await cleo.sees("three, from the tunnel");
  const whole = ["Cleo: one", "Cleo: two", "Dan: three, from the tunnel"];
  assert.deepEqual(await dan.transcript(), whole);
  assert.deepEqual(await cleo.transcript(), whole);
});

test("a tab that slept while its connection was lost is back when somebody looks at it", { timeout: 60_000 }, async () => {
  const wire = await Wire.to(server.port);
  const eve = await Person.enter(browser, server.url, "Eve");
  const fay = await Person.enter(browser, wire.url, "Fay");
  for (const person of [eve, fay]) {
    await person.at("room-input").fill("asleep");
    await person.at("room-join").click();
    await person.at("position").filter({ hasText: "position" }).waitFor({ state: "attached" });
  }
  await appears(fay, "hidden");
  wire.isDown = true;
  wire.cut();
  await fay.is("waiting");
  await eve.say("one", "two");
  await eve.sees("two");
  wire.isDown = false;
  await appears(fay, "visible");
  await fay.is("connected");
  await fay.sees("two");
  assert.deepEqual(await fay.transcript(), ["Eve: one", "Eve: two"]);
  wire.close();
});

/** Puts the page into the background or the foreground. */
function appears(person, how) {
  return person.page.evaluate((how) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => how });
    document.dispatchEvent(new Event("visibilitychange"));
  }, how);
}

test("a server that was restarted is reported as one: a gap with its reason, and what was unsent is sent", { timeout: 60_000 }, async () => {
  const first = await startServer();
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${first.url}/live`); // of the same origin, with no script of ours
  await page.evaluate(async () => {
    const { Client } = await import("/hauyna.js");
    const client = new Client("/chat?user_id=gil", { retry: { baseDelay: 100, maxDelay: 500, backoffMultiplier: 2 } });
    const room = client.channel("room:restart");
    globalThis.received = { gaps: [], heard: [], states: [] };
    client.onState(({ name }) => received.states.push(name));
    client.onGap((gap) => received.gaps.push(gap));
    room.on("message", ({ content }) => received.heard.push(content));
    await client.connect();
    await room.subscribe();
    await room.publish("before");
    globalThis.room = room;
    globalThis.client = client;
  });
  assert.equal(await first.stop(), 0);
  await page.waitForFunction(() => client.state.name === "reconnecting");
  await page.evaluate(() => {
    globalThis.unsent = room.publish("meanwhile");
  });
  const second = await startServer(first.port);
  const position = await page.evaluate(() => unsent);
  assert.equal(position.offset, 1, "it is the first of a new stream");
  await page.waitForFunction(() => received.heard.length === 2);
  const received = await page.evaluate(() => globalThis.received);
  assert.deepEqual(received.heard, ["before", "meanwhile"]);
  assert.equal(received.gaps.length, 1, JSON.stringify(received.gaps));
  assert.deepEqual([received.gaps[0].channel, received.gaps[0].reason], ["room:restart", "epoch_changed"]);
  assert.equal(received.gaps[0].to.epoch, position.epoch);
  assert.equal(received.states.at(-1), "connected");
  await context.close();
  await second.stop();
});

test("a page without a bundler speaks MessagePack with a second file", { timeout: 60_000 }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${server.url}/live`);
  const heard = await page.evaluate(async () => {
    const [{ Client }, { msgpack }] = await Promise.all([import("/hauyna.js"), import("/hauyna-msgpack.js")]);
    const client = new Client("/chat?user_id=gil", { codec: msgpack });
    const room = client.channel("room:packed");
    const next = new Promise((resolve) => room.on("message", ({ content }) => resolve(content)));
    await client.connect();
    await room.subscribe();
    await room.publish({ text: "packed" });
    const content = await next;
    client.close();
    return content;
  });
  assert.deepEqual(heard, { text: "packed" });
  await context.close();
});
