// The chat page in a real browser, against the program as users start it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startServer } from "./support.mjs";

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

test("who is cut off misses nothing and sees nothing twice", { timeout: 60_000 }, async () => {
  const ann = await Person.enter(browser, server.url, "Ann");
  const bob = await Person.enter(browser, server.url, "Bob");
  await ann.page.locator("[data-testid=person][data-user=Bob]").waitFor();
  await ann.say("Are you there?");
  await bob.sees("Are you there?");
  await bob.say("I am.");
  await ann.sees("I am.");

  await bob.at("cut").click();
  await bob.is("waiting");
  await ann.say("one", "two", "three");
  await ann.sees("three");
  await bob.say("written while offline");
  assert.equal(await bob.page.locator("[data-state=pending]").count(), 1, "it waits in the outbox");
  await bob.shot("cut");

  await bob.is("connected");
  await bob.sees("written while offline");
  await ann.sees("written while offline");
  const whole = ["Ann: Are you there?", "Bob: I am.", "Ann: one", "Ann: two", "Ann: three", "Bob: written while offline"];
  assert.deepEqual(await bob.transcript(), whole);
  assert.deepEqual(await ann.transcript(), whole);
  assert.equal(await bob.at("away").textContent(), "While you were away: 3");
  assert.equal(await bob.page.locator("[data-replayed]").count(), 3);
  await bob.shot("desktop");
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});

test("a room is its own channel, and a late guest gets its history", { timeout: 60_000 }, async () => {
  const cleo = await Person.enter(browser, server.url, "Cleo");
  await cleo.at("room-input").fill("Night Shift");
  await cleo.page.keyboard.press("Enter");
  await cleo.page.getByTestId("title").filter({ hasText: "night-shift" }).waitFor();
  await cleo.say("<b>first</b> & <img src=x onerror=alert(1)>");
  await cleo.sees("<b>first</b>");

  const dan = await Person.enter(browser, server.url, "Dan");
  await dan.at("room-input").fill("night-shift");
  await dan.at("room-join").click();
  await dan.sees("<b>first</b>");
  assert.deepEqual(await dan.transcript(), ["Cleo: <b>first</b> & <img src=x onerror=alert(1)>"]);
  assert.equal(await dan.page.locator("[data-testid=log] img").count(), 0, "what people write is text");
  await dan.at("channel-general").click();
  assert.ok(!(await dan.transcript()).some((line) => line.includes("first")), "and general has not heard it");
  await cleo.say("are you still in here?");
  await dan.at("channel-room:night-shift").filter({ hasText: "1" }).waitFor();
  assert.deepEqual([...cleo.faults, ...dan.faults], []);
});

test("a server that lost its memory is told of, and what was unsent still arrives", { timeout: 60_000 }, async () => {
  const first = await startServer();
  const fay = await Person.enter(browser, first.url, "Fay");
  await fay.say("before");
  await fay.sees("before");
  assert.equal(await first.stop(), 0);
  await fay.is("waiting");
  await fay.say("meanwhile");

  const second = await startServer(first.port);
  await fay.is("connected");
  await fay.sees("meanwhile");
  const notes = await fay.at("note").allTextContents();
  assert.ok(notes.some((note) => note.includes("some messages may be missing")), JSON.stringify(notes));
  await fay.say("after");
  await fay.sees("after");
  assert.deepEqual(await fay.transcript(), ["Fay: before", "Fay: meanwhile", "Fay: after"]);
  await fay.page.close();
  await second.stop();
});

test("the page that the first Hauyna printed works to its last line, from another port", { timeout: 60_000 }, async () => {
  const chat = await startServer(0, ["--dev"]);
  const context = await browser.newContext();
  const visit = async () => {
    const page = await context.newPage();
    await page.goto(`${server.url}/live`); // of another origin than the chat, with no script of ours
    return page;
  };
  const [ann, bob] = [await visit(), await visit()];
  const address = chat.url.replace("http", "ws");
  await ann.evaluate(plainPage, `${address}/chat?user_id=123`);
  await ann.evaluate(() => sendMessage("hola"));
  await shows(ann, "123: hola");
  await bob.evaluate(plainPage, `${address}/chat?user_id=456`);
  await shows(ann, "456 is online");
  await bob.evaluate(() => sendMessage("¿qué tal?"));
  for (const page of [ann, bob]) await shows(page, "456: ¿qué tal?");
  await ann.evaluate(() => updateStatus("away"));
  for (const page of [ann, bob]) await shows(page, "123 is away");
  await bob.evaluate(() => socket.close());
  await shows(bob, "connected again");
  const faults = await ann.evaluate(() => lines.filter((line) => line.startsWith("error")));
  assert.deepEqual(faults, []);
  await context.close();
  await chat.stop();
});

test("a page of another origin is refused unless the server was told to let it in", { timeout: 60_000 }, async () => {
  const chat = await startServer();
  const page = await browser.newPage();
  await page.goto(`${server.url}/live`);
  const opened = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve(true);
        socket.onclose = () => resolve(false);
      }),
    `${chat.url.replace("http", "ws")}/chat?user_id=123`,
  );
  assert.equal(opened, false);
  await page.close();
  await chat.stop();
});

/** Runs in the page: no library, no sub-protocol, no `id`; `lines` holds what it would print. */
function plainPage(url) {
  window.lines = [];
  window.socket = new WebSocket(url);
  const send = (message) => socket.send(JSON.stringify(message));
  window.sendMessage = (content) => send({ type: "channel_message", channel: "chat", content });
  window.updateStatus = (status) => send({ type: "update_status", status });
  socket.onmessage = (event) => {
    const data = JSON.parse(event.data);
    if (data.type === "message") lines.push(`${data.user}: ${data.content}`);
    if (data.type === "presence_change") lines.push(`${data.user} is ${data.metadata.status}`);
    if (data.type === "error") lines.push(`error: ${event.data}`);
  };
  socket.onclose = () => {
    const next = new WebSocket(url);
    next.onopen = () => lines.push("connected again");
  };
  return new Promise((opened) => {
    socket.onopen = () => opened(send({ type: "subscribe_channel", channel: "chat" }));
  });
}

/** Waits until a page has printed this line. */
function shows(page, line) {
  return page.waitForFunction((line) => lines.includes(line), line, { timeout: 15_000 });
}

test("it fits a phone, in the light and in the dark", { timeout: 60_000 }, async () => {
  const eve = await Person.enter(browser, server.url, "Eve", { ...PHONE, colorScheme: "dark" });
  await eve.say("A word as long as a tape worm: " + "donaudampfschifffahrtsgesellschaft".repeat(3));
  await eve.sees("donau");
  await fits(eve, "the chat");
  await eve.shot("phone-dark");
  await eve.at("cut").click();
  await eve.is("waiting");
  await fits(eve, "the chat while it waits");
  await eve.shot("phone-cut");
  await eve.at("retry").click();
  await eve.is("connected");
  await eve.at("menu").click();
  await eve.at("my-name").filter({ visible: true }).waitFor();
  await fits(eve, "the drawer");
  assert.equal(await eve.page.locator("#main").evaluate((main) => main.inert), true, "the room cannot be reached behind it");
  assert.equal(await eve.page.evaluate(() => document.getElementById("side").contains(document.activeElement)), true);
  await eve.page.keyboard.press("Escape");
  assert.equal(await eve.page.evaluate(() => document.activeElement.id), "menu", "the focus is back where it was");
  assert.equal(await eve.page.locator("#side").evaluate((side) => side.inert), true);
  await eve.at("menu").click();
  await eve.shot("phone-drawer");

  const context = await browser.newContext({ ...PHONE, colorScheme: "light" });
  const guest = new Person(await context.newPage(), "nobody yet");
  await guest.page.goto(`${server.url}/chat.html`);
  await fits(guest, "the door");
  await guest.shot("phone-door");
  assert.deepEqual([...eve.faults, ...guest.faults], []);
});

test("addresses are links, authors are told, and what is old is grey while the socket is cut", { timeout: 60_000 }, async () => {
  const gus = await Person.enter(browser, server.url, "Gus");
  const hal = await Person.enter(browser, server.url, "Hal with a name that has no end");
  await hal.say("See https://example.com/a?b=1&c=(2). javascript:alert(1)", "and this", "שלום");
  await gus.sees("שלום");
  const link = gus.page.locator("[data-testid=text] a", { hasText: "example.com/a?b" });
  assert.equal(await link.count(), 1);
  assert.equal(await link.getAttribute("href"), "https://example.com/a?b=1&c=(2");
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
  const heard = await gus.at("log").last().locator("li", { hasText: "and this" }).innerText();
  assert.match(heard, /Hal with a name/, "a message under the same name says it, too");
  const said = gus.page.locator("[data-testid=text]", { hasText: "שלום" });
  assert.equal(await said.evaluate((text) => getComputedStyle(text).direction), "rtl");
  const filter = () => gus.page.locator("[data-testid=person]", { hasText: "Hal" }).evaluate((item) => getComputedStyle(item).filter);
  assert.equal(await filter(), "none");
  await gus.at("cut").click();
  await gus.is("waiting");
  assert.equal(await filter(), "grayscale(1)");
  assert.equal(await gus.page.locator("#people-word").textContent(), "Last seen here");
  assert.deepEqual([...gus.faults, ...hal.faults], []);
});
