// Playwright between the page and the server: it sees each frame, and closes the connection on request.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startBrowser, startServer } from "./support.mjs";

let server, browser;
before(async () => {
  server = await startServer();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

test("the chat comes back after its connection was ended, and misses nothing", async () => {
  const page = await browser.newPage();
  const sent = [];
  let route;
  await page.routeWebSocket(/\/chat/, (socket) => {
    const upstream = socket.connectToServer();
    socket.onMessage((frame) => {
      sent.push(JSON.parse(frame));
      upstream.send(frame);
    });
    route = socket;
  });
  await page.goto(`${server.url}/chat.html`);
  await page.getByTestId("name-input").fill("Ana");
  await page.getByTestId("enter").click();
  await page.locator("[data-testid=state][data-state=connected]").waitFor();
  const before = route;
  await before.close({ code: 3000, reason: "restart" });
  await page.getByTestId("message-input").fill("said meanwhile");
  await page.getByTestId("send").click();
  await page.locator("[data-testid=message][data-state=sent]", { hasText: "said meanwhile" }).waitFor();
  assert.notEqual(route, before, "there is another connection");
  const keys = new Set(sent.filter(({ type }) => type === "channel_message").map(({ key }) => key));
  assert.equal(keys.size, 1, "however often it was sent, it is one publication");
});
