// The first page of the program: two users side by side, of whom one is cut off and misses nothing.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Person, startBrowser, startServer } from "./support.mjs";

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens the page, and waits until both users have greeted each other. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const visitor = new Person(await context.newPage(), "visitor");
  await visitor.page.goto(server.url);
  for (const id of ["ann", "ben"]) await messages(visitor, id).nth(1).waitFor();
  return visitor;
}

function messages(visitor, id) {
  return visitor.page.locator(`[data-testid=${id}] [data-testid=message][data-state=sent]`);
}

function texts(visitor, id) {
  return messages(visitor, id).getByTestId("text").allTextContents();
}

async function write(visitor, id, text) {
  await visitor.at(`${id}-input`).fill(text);
  await visitor.at(`${id}-send`).click();
}

test("who is cut gets what was missed, in order and once, and keeps the focus", { timeout: 60_000 }, async () => {
  const visitor = await open();
  await visitor.at("writes").uncheck();
  await visitor.shows("ben-latency", / ms$/);
  await visitor.at("ben-cut").focus();
  await visitor.page.keyboard.press("Enter");
  await visitor.page.locator("[data-testid=ben][data-state=waiting]").waitFor();
  assert.equal(await visitor.page.evaluate(() => document.activeElement.dataset.testid), "ben-retry");
  for (const text of ["one", "two", "three"]) await write(visitor, "ann", text);
  await write(visitor, "ben", "four, from the tunnel");
  await messages(visitor, "ann").nth(4).waitFor();
  assert.equal((await texts(visitor, "ben")).length, 2, "nothing comes over a socket that is cut");
  assert.equal(await visitor.page.locator("[data-testid=ben] [data-state=pending]").count(), 1);

  await visitor.at("ben-retry").click();
  await messages(visitor, "ben").nth(5).waitFor();
  await messages(visitor, "ann").nth(5).waitFor();
  const heard = await texts(visitor, "ben");
  assert.deepEqual(heard.slice(2), ["one", "two", "three", "four, from the tunnel"]);
  assert.deepEqual(await texts(visitor, "ann"), heard);
  await visitor.shows("ben-position", /:6$/);
  for (const figure of ["lost", "doubled"]) assert.equal(await visitor.at(`ben-${figure}`).textContent(), "0");
  assert.equal(await visitor.page.locator("[data-testid=ben] [data-replayed]").count(), 3);
  await visitor.shot("demo");
  assert.deepEqual(visitor.faults, []);
  await visitor.page.context().close();
});

test("the other one writes by itself, and all of it arrives when the cut ends by itself", { timeout: 60_000 }, async () => {
  const visitor = await open();
  await visitor.at("ann-cut").click();
  await messages(visitor, "ben").nth(6).waitFor();
  await visitor.shows("ann-state", /Back in \d+ s/);
  await messages(visitor, "ann").nth(6).waitFor();
  assert.deepEqual(await texts(visitor, "ann"), await texts(visitor, "ben"));
  await visitor.page.reload();
  await messages(visitor, "ann").nth(6).waitFor();
  assert.equal(await visitor.at("ann-lost").textContent(), "0");
  await visitor.page.context().close();
});

test("a cursor over one conversation is seen in the other", { timeout: 60_000 }, async () => {
  const visitor = await open();
  const pad = await visitor.page.locator("[data-testid=ann] .pad").boundingBox();
  await visitor.page.mouse.move(pad.x + 10, pad.y + 10);
  await visitor.page.mouse.move(pad.x + pad.width / 2, pad.y + pad.height / 4, { steps: 5 });
  await visitor.at("ben-cursor").filter({ hasText: "Ann", visible: true }).waitFor();
  const place = () => visitor.at("ben-cursor").evaluate(({ style }) => [style.left, style.top].map(parseFloat));
  await visitor.page.waitForFunction(() => Math.abs(parseFloat(document.querySelector("[data-testid=ben-cursor]").style.left) - 50) < 2);
  const [left, top] = await place();
  assert.ok(Math.abs(left - 50) < 2 && Math.abs(top - 25) < 2, `${left} % ${top} %`);
  await visitor.shot("demo-cursor");
  assert.equal(await visitor.at("ann-cursor").isVisible(), false, "not to the sender");
  await visitor.page.context().close();
});
