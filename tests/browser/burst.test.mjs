// Many messages at once: the chat page draws them once per frame, and limits the number of shown messages.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Person, startBrowser, startServer } from "./support.mjs";

const BURST = 3_000;

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

test("three thousand messages are drawn in few frames, and the last of them is on the page", { timeout: 60_000 }, async (t) => {
  const ann = await Person.enter(browser, server.url, "Ann");
  await ann.page.evaluate(watchDrawing);
  const sender = await startSender(browser, server.url);
  await sender.evaluate(sendBurst, BURST);
  await ann.sees(`message ${BURST}`);
  const { drawings, took, longest } = await ann.page.evaluate(() => globalThis.drawing);
  t.diagnostic(`${BURST} messages: ${took.toFixed(0)} ms from the first to the last, ${drawings} drawings, the longest task ${longest.toFixed(0)} ms`);
  assert.ok(drawings < BURST / 10, `${drawings} drawings`);
  assert.ok(took < 10_000, `${took} ms`); // about 1 s where nothing else runs; it was 14 s
  const shown = await ann.transcript();
  assert.ok(shown.length <= 200, `${shown.length} are on the page`);
  assert.equal(shown.at(-1), `Bob: message ${BURST}`);
  assert.equal(shown[0], `Bob: message ${BURST - shown.length + 1}`, "in order, without a hole");

  await ann.at("earlier").click();
  await ann.page.locator("[data-testid=text]", { hasText: new RegExp(`^message ${BURST - shown.length - 50}$`) }).waitFor({ state: "attached" });
  const longer = await ann.transcript();
  assert.deepEqual(longer.slice(-shown.length), shown, "earlier messages stand before the others");
  assert.deepEqual(ann.faults, []);
});

/** Runs in the page: counts changes of the list, the total time, and the longest time that the page is busy. */
function watchDrawing() {
  const drawing = { drawings: 0, took: 0, longest: 0 };
  globalThis.drawing = drawing;
  let first = 0;
  new MutationObserver(() => {
    drawing.drawings += 1;
    first ||= performance.now();
    drawing.took = performance.now() - first;
  }).observe(document.getElementById("logs"), { childList: true, subtree: true });
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) drawing.longest = Math.max(drawing.longest, duration);
  }).observe({ entryTypes: ["longtask"] });
}

/** Opens a page of the same origin with a bare socket, which does not draw messages. */
async function startSender(browser, url) {
  const page = await browser.newPage();
  await page.goto(`${url}/live`);
  return page;
}

/** Runs in the page: publishes without waiting for answers. */
function sendBurst(count) {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/chat?user_id=Bob`);
  return new Promise((sent) => {
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "subscribe_channel", channel: "general" }));
      for (let n = 1; n <= count; n += 1) {
        socket.send(JSON.stringify({ type: "channel_message", channel: "general", content: `message ${n}` }));
      }
      sent();
    };
  });
}
