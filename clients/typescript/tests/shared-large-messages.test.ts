// A message of a page that an intermediary between the worker and the server refuses, although the server
// would accept it.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";
import { fate } from "./world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/**
 * Returns a browser whose connections end with 1009 if a frame has more than 8,000 bytes, after `delay`
 * milliseconds, and the number of those connections.
 */
function behindProxy(server: FakeServer, delay = 0): { browser: Browser; ended: { count: number; code: number } } {
  const ended = { count: 0, code: 1009 };
  // The network takes a moment.
  const end = async () => {
    if (delay > 0) await new Promise<void>((resolve) => server.clientOptions.environment?.after(delay, resolve));
    for (let n = 0; n < 20; n++) await undefined;
    await server.drop(ended.code);
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

test("a request that is too large for the connection fails in its page, and does not end the next connection", async () => {
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

test.each(["is closed", "aborts it", "is signed out"])("a large request of a page that %s fails no smaller request of another page", async (how) => {
  const server = new FakeServer();
  server.answer("look", () => new Promise(() => {}));
  const { browser, ended } = behindProxy(server, 2000);
  const one = await browser.connected();
  const two = await browser.connected();
  for (const { client } of [one, two]) await client.channel("room").subscribe();
  const abort = new AbortController();
  const large = fate(one.client.request("look", { text: "x".repeat(9000) }, { signal: abort.signal }));
  const beside = fate(one.client.request("look", { text: "beside" }, { repeatable: true, timeout: 600_000 }));
  const small = fate(two.client.request("look", { text: "small" }, { repeatable: true, timeout: 600_000 }));
  await browser.settle();
  if (how === "is closed") await one.end();
  else if (how === "aborts it") abort.abort("enough");
  else one.client.close();
  await browser.pass(10_000);
  expect([ended.count, small.now]).toEqual([1, "pending"]);
  if (how === "aborts it") expect([large.now, beside.now]).toEqual(["enough", "pending"]);
});

test("a presence update that is too large and has timed out fails no smaller request of another page", async () => {
  const server = new FakeServer({ channels: { presence: true } as never });
  server.answer("look", () => new Promise(() => {}));
  const { browser, ended } = behindProxy(server, 15_000);
  const one = await browser.connected();
  const two = await browser.connected();
  for (const { client } of [one, two]) await client.channel("room").subscribe();
  const large = fate(one.client.channel("room").presence.update({ text: "x".repeat(9000) } as never));
  const small = fate(two.client.request("look", { text: "small" }, { repeatable: true, timeout: 600_000 }));
  await browser.pass(60_000);
  expect([ended.count, large.now, small.now]).toEqual([1, "timeout", "pending"]);
});

test("a repeated presence update that is too large fails no smaller request, and does not end every connection", async () => {
  const server = new FakeServer({ channels: { presence: true } as never });
  server.answer("look", () => new Promise(() => {}));
  const { browser, ended } = behindProxy(server);
  const one = await browser.connected();
  const room = one.client.channel("room");
  await room.subscribe();
  ended.code = 1006;
  const large = fate(room.presence.update({ text: "x".repeat(9000) } as never));
  const small = fate(one.client.request("look", { text: "small" }, { repeatable: true, timeout: 600_000 }));
  await browser.settle();
  ended.code = 1009; // from now on both have it, the page and its worker
  await browser.pass(60_000);
  expect([ended.count, large.now, small.now, room.state.name]).toEqual([4, "refused", "pending", "subscribed"]);
});

test("a `resume` of the worker that is too large for the connection ends no subscription of a page", async () => {
  const server = new FakeServer();
  const { browser, ended } = behindProxy(server);
  const one = await browser.connected();
  const names = Array.from({ length: 40 }, (_, n) => `${n}-`.padEnd(240, "x"));
  const rooms = names.map((name) => one.client.channel(name));
  for (const room of rooms) await room.subscribe();
  await server.cut();
  await browser.pass(70_000); // the server has forgotten the session
  await server.restore();
  await browser.pass(60_000);
  expect([ended.count, ...new Set(rooms.map(({ state }) => state.name))]).toEqual([1, "subscribed"]);
});
