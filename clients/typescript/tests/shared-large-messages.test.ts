// A message of a page that an intermediary between the worker and the server refuses, although the server
// would accept it.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";
import { fate } from "./world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/**
 * Returns a browser whose connections end with 1009 if a frame has more than 8,000 bytes, and the number of
 * those connections.
 */
function behindProxy(server: FakeServer): { browser: Browser; ended: { count: number } } {
  const ended = { count: 0 };
  // The network takes a moment.
  const end = async () => {
    for (let n = 0; n < 20; n++) await undefined;
    await server.drop(1009);
  };
  const Original = server.WebSocket;
  const Limited = class extends Original {
    override send(frame: string): void {
      if (frame.length <= 8000) return super.send(frame as never);
      ended.count++;
      void end();
    }
  };
  Object.assign(server, { WebSocket: Limited });
  return { browser: new Browser(server), ended };
}

test("what is too large for the connection fails in its page, and does not end the next one of all pages", async () => {
  const server = new FakeServer();
  const { browser, ended } = behindProxy(server);
  const one = await browser.connected();
  const two = await browser.connected();
  for (const { client } of [one, two]) await client.channel("room").subscribe();
  const ttl = 600_000;
  const asks = {
    publish: (text: string) => one.client.channel("room").publish(text, { ttl }),
    request: (text: string) => one.client.request("look", { text }, { repeatable: true, ttl }),
    subscribe: (text: string) => one.client.channel("other").subscribe({ metadata: { text } }),
  };
  for (const [name, ask] of Object.entries(asks)) {
    ended.count = 0;
    const asked = fate(ask("x".repeat(9000)));
    const small = fate(two.client.channel("room").publish("small", { ttl }));
    await browser.pass(120_000);
    expect([name, ended.count, asked.now, small.now]).toMatchObject([name, 1, "refused", { epoch: "epoch-1" }]);
  }
});

test("a client event that is too large for the connection fails no request of another page", async () => {
  const server = new FakeServer();
  server.answer("look", () => new Promise(() => {}));
  const { browser, ended } = behindProxy(server);
  const one = await browser.connected();
  const two = await browser.connected();
  for (const { client } of [one, two]) await client.channel("room").subscribe();
  const small = fate(two.client.request("look", { text: "small" }));
  await browser.settle();
  (one.client.channel("room").send as (type: string, data: unknown) => void)("drawing", "x".repeat(9000));
  await browser.pass(10_000);
  expect([ended.count, small.now]).toEqual([1, "outcome_unknown"]);
});
