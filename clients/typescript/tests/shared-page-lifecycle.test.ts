// Pages that join, leave, freeze and return, and workers that end: no page that is gone counts as alive, and
// no living page is forgotten.

import { beforeEach, describe, expect, test, vi } from "vitest";
import { FakeServer, Refusal } from "../src/testing.js";
import { Browser } from "./shared-world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

const policy = { baseDelay: 1000, maxDelay: 1000, backoffMultiplier: 1 };

test("a page opened while the server is away connects when it is back, however long that takes", async () => {
  const server = new FakeServer();
  server.rejectConnections(503);
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await browser.pass(120_000);
  server.rejectConnections();
  await browser.pass(60_000);
  expect([one, two].map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
});

test("a page that closes before the worker is connected leaves no running worker", async () => {
  const server = new FakeServer();
  server.rejectConnections(503);
  const browser = new Browser(server);
  const page = await browser.connected();
  await browser.pass(15_000);
  page.client.close();
  server.rejectConnections();
  await browser.pass(60_000);
  expect(server.users).toEqual([]);
});

test("a page that closes while the worker is offline leaves its channels", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const page = await browser.connected();
  await page.client.channel("room").subscribe();
  await server.cut();
  await browser.settle();
  page.client.close();
  await server.restore();
  await browser.pass(120_000);
  expect([server.users, server.channel("room").subscribers]).toEqual([[], []]);
});

test("a page that ends while the worker is offline ends its shares, and does not disconnect the others", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await one.client.channel("both").subscribe();
  for (const name of ["both", "two"]) await two.client.channel(name).subscribe();
  await server.cut();
  await two.end();
  await server.restore();
  await browser.pass(60_000);
  expect(one.client.state.name).toBe("connected");
  expect([server.users, server.channel("both").subscribers, server.channel("two").subscribers]).toEqual([["ana"], ["ana"], []]);
});

test("the last page ends the connection, and the next page opens a new one", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  for (const { client } of pages) await client.channel("room").subscribe();
  await pages[0]!.end();
  expect(server.channel("room").subscribers).toEqual(["ana"]);
  pages[1]!.client.onRequest("confirm", () => "first");
  expect(await server.ask("ana", "confirm")).toBe("first");
  pages[1]!.client.close();
  await browser.settle();
  expect([server.users, server.channel("room").subscribers]).toEqual([[], []]);
  const { client } = await browser.connected();
  client.onRequest("confirm", () => "yes");
  // The worker knows this client request from the previous connection.
  expect(await server.ask("ana", "confirm")).toBe("yes");
  await pages[1]!.client.connect();
  expect(server.users).toEqual(["ana"]);
});

describe.each([
  ["with locks", { hasLocks: true }],
  ["without locks", { hasLocks: false }],
  ["whose ports report their close", { hasLocks: false, tellsClose: true }],
])("in a browser %s", (_, options) => {
  test("a page that ends loses its subscriptions", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const [one, two] = [await browser.connected(), await browser.connected()];
    await two.client.channel("room").subscribe();
    await two.end();
    if (!options.hasLocks && !("tellsClose" in options)) await browser.pass(200_000);
    expect([one.client.state.name, server.channel("room").subscribers]).toEqual(["connected", []]);
  });

  test("a page that is left ends its subscriptions at once, and one restored from the cache continues", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const [one, two] = [await browser.connected(), await browser.connected()];
    const heard: unknown[] = [];
    for (const { client } of [one, two]) await client.channel("room").subscribe();
    two.client.channel("room").on("message", ({ content }) => heard.push(content));
    await one.leave();
    expect(server.channel("room").subscribers).toEqual(["ana"]);
    await two.leave({ isCached: true });
    expect([server.channel("room").subscribers, server.users]).toEqual([[], []]);
    await browser.pass(600_000);
    await server.channel("room").publish("missed");
    await two.thaw();
    await browser.pass(10_000);
    expect([two.client.state.name, heard]).toEqual(["connected", ["missed"]]);
  });

  test("a page that was wrongly considered gone is informed, and continues", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const page = await browser.connected();
    const heard: unknown[] = [];
    page.client.channel("room").on("message", ({ content }) => heard.push(content));
    await page.client.channel("room").subscribe();
    await page.freeze({ isReleased: true });
    await browser.pass(600_000);
    expect(server.users).toEqual([]);
    await server.channel("room").publish("missed");
    await page.thaw();
    await browser.pass(10_000);
    expect([page.client.state.name, heard]).toEqual(["connected", ["missed"]]);
  });

  test("pages start a new worker when theirs ends", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const pages = [await browser.connected(), await browser.connected()];
    const heard: unknown[] = [];
    for (const { client } of pages) {
      client.channel("room").on("message", ({ content }) => heard.push(content));
      await client.channel("room").subscribe();
    }
    await browser.kill();
    await server.channel("room").publish("missed");
    // Without locks, pages ask the worker from time to time whether it lives.
    await browser.pass(options.hasLocks ? 5_000 : 300_000);
    expect(pages.map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
    expect([browser.started, server.users, heard]).toEqual([2, ["ana"], ["missed", "missed"]]);
  });

  test("pages start a new worker when theirs ends while offline", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const page = await browser.connected();
    await server.cut();
    await browser.pass(60_000);
    await browser.kill();
    await browser.pass(30_000);
    await server.restore();
    page.look();
    await browser.pass(60_000);
    expect([page.client.state.name, browser.started]).toEqual(["connected", 2]);
  });

  test("an idle page that sends nothing is not considered gone", async () => {
    const server = new FakeServer();
    const browser = new Browser(server, options);
    const page = await browser.connected();
    await page.client.channel("room").subscribe();
    await browser.pass(1_000_000);
    expect([page.client.state.name, server.channel("room").subscribers]).toEqual(["connected", ["ana"]]);
    expect(page.said.filter(({ say }) => say === "hello")).toHaveLength(1);
  });
});

test("a page that gets no lock from the browser is monitored by its signs of life", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const request = vi.spyOn(browser.locks, "request").mockRejectedValue(new Error("SecurityError"));
  const page = await browser.connected();
  expect(page.client.state.name).toBe("connected");
  request.mockRestore();
  await page.end();
  await browser.pass(200_000);
  expect(server.users).toEqual([]);
});

test("a page abandons a worker whose script has failed, and everything that the worker keeps for it", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const page = await browser.connected();
  await page.client.channel("room").subscribe();
  await page.fail();
  await browser.pass(30_000);
  expect([page.client.state.name, server.users, server.channel("room").subscribers]).toEqual(["connected", ["ana"], ["ana"]]);
});

test("a worker of another version is not shared", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const old = await browser.connected();
  const page = browser.page();
  const join = browser.join.bind(browser);
  browser.join = (one) => {
    const port = join(one);
    const post = port.postMessage.bind(port);
    port.postMessage = (message: any) => post(message.say === "hello" ? { ...message, version: 99 } : message);
    return port;
  };
  void page.client.connect();
  await browser.pass(10_000);
  expect([old, page].map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
  expect(server.users).toEqual(["ana", "ana"]);
});

test("a message that a worker does not understand has no effect", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const page = await browser.connected();
  const port = browser.join(page);
  for (const say of ["frame", "open", "close", "token", "news", "alive", undefined]) port.postMessage({ say, socket: 7, frame: "{", id: 1 });
  await browser.settle();
  expect(page.client.state.name).toBe("connected");
});

test("a frame that cannot be decoded closes the socket of its page, and affects no other page", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  const states: string[] = [];
  for (const [n, { client }] of [one, two].entries()) client.onState(({ name }) => states.push(`${n} ${name}`));
  one.post({ say: "frame", socket: 1, frame: "{" });
  one.post({ say: "frame", socket: 1, frame: "null" });
  await browser.pass(10_000);
  expect(states).toEqual(["0 reconnecting", "0 reconnecting", "0 connected"]);
});

test("options that are proxies and tokens that are not strings reach the worker", async () => {
  const asked: unknown[] = [];
  const server = new FakeServer({ authenticate: ({ token }) => (asked.push(token), "ana") });
  const browser = new Browser(server);
  const getToken = (() => ({ toString: () => "token" })) as never;
  const page = await browser.connected({ retry: new Proxy({ ...policy, onRetry: () => {} }, {}), getToken });
  expect([page.client.state.name, asked]).toEqual(["connected", ["token"]]);
});

test("when the worker's attempts are used up, the pages close with its reason, and connect again on request", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected({ retry: { ...policy, maxAttempts: 3 } }), await browser.connected()];
  server.rejectConnections(503);
  await server.drop(1006);
  await browser.pass(120_000);
  const closed = { name: "closed", reason: "gave up after 3 attempts" };
  expect(pages.map(({ client }) => client.state)).toMatchObject([closed, closed]);
  server.rejectConnections();
  await browser.pass(60_000);
  expect(server.users).toEqual([]);
  await Promise.all(pages.map(({ client }) => client.connect()));
  expect(server.users).toEqual(["ana"]);
});

test("pages that wait for the network are informed that the server has refused them permanently", async () => {
  let isRevoked = false;
  const authenticate = () => {
    if (isRevoked) throw new Error("revoked");
    return "ana";
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  await server.cut();
  await browser.pass(30_000);
  isRevoked = true;
  await server.restore();
  await browser.settle();
  expect(pages.map(({ client }) => client.state)).toMatchObject(pages.map(() => ({ name: "closed", code: 3500, reason: "revoked" })));
});

test("a request uses the timeout of its page", async () => {
  const server = new FakeServer();
  let answer = (_: unknown) => {};
  server.answer("slow", () => new Promise((resolve) => (answer = resolve)));
  const browser = new Browser(server);
  const [one, two] = [await browser.connected({ timeout: 1000 }), await browser.connected()];
  const patient = one.client.request("slow", {}, { timeout: 600_000 });
  const hasty = two.client.request("slow");
  const failed = expect(hasty).rejects.toMatchObject({ kind: "timeout" });
  await browser.pass(60_000);
  await failed;
  answer("done");
  server.answer("slow", () => "done");
  await browser.settle();
  await server.drop(1006);
  await expect(patient).rejects.toMatchObject({ kind: "outcome_unknown" });
});

test("the requests of all pages together do not exceed the worker's limit", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  for (const { client } of pages) await client.channel("room").subscribe();
  const published = pages.flatMap(({ client }) => Array.from({ length: 800 }, (_, n) => client.channel("room").publish(n)));
  await Promise.all(published);
  expect(server.channel("room").position?.offset).toBe(1600);
});

test("a request that cannot be answered is refused, so no page waits forever", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  server.refuse("rename", new Refusal("rate_limited", "slow down", { retry_after: 5 }));
  await expect(client.request("rename")).rejects.toMatchObject({ type: "rate_limited", retryAfter: 5 });
  await expect(client.request("nobody")).rejects.toMatchObject({ type: "unknown_event" });
  await expect(server.ask("ana", "confirm")).rejects.toThrow("nobody answers this");
});

test("a listener that throws affects no other listener", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  const heard: unknown[] = [];
  pages[0]!.client.channel("room").on("message", () => {
    throw new Error("listener");
  });
  pages[1]!.client.channel("room").on("message", ({ content }) => heard.push(content));
  for (const { client } of pages) await client.channel("room").subscribe();
  await server.channel("room").publish(1);
  await server.channel("room").publish(2);
  await browser.settle();
  expect(heard).toEqual([1, 2]);
  expect(pages.map(({ client }) => client.channel("room").position?.offset)).toEqual([2, 2]);
});

test("the worker tries to connect at once when a page becomes visible", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const page = await browser.connected({ retry: { baseDelay: 60_000, maxDelay: 60_000, backoffMultiplier: 1 } });
  await server.drop(1006);
  await browser.pass(1_000);
  expect(page.client.state.name).toBe("reconnecting");
  page.look();
  await browser.settle();
  expect(page.client.state.name).toBe("connected");
});
