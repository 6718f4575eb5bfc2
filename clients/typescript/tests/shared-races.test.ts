// Simultaneous events of pages, their worker and the server: in either order, the page receives correct
// information.

import { beforeEach, expect, test, vi } from "vitest";
import type { WebSocketConstructor } from "../src/index.js";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

const turns = async (count: number) => {
  for (let turn = 0; turn < count; turn++) await undefined;
};
const MOMENTS = Array.from({ length: 60 }, (_, n) => n);

test("a subscription that the server ends while the page catches up ends in the page, or is requested again", async () => {
  for (const moment of MOMENTS) {
    const server = new FakeServer();
    const browser = new Browser(server);
    const { client } = await browser.connected();
    for (let n = 0; n < 3; n++) await server.channel("room").publish(n);
    const heard: unknown[] = [];
    client.channel("room").on("message", ({ content }) => heard.push(content));
    void client.channel("room").subscribe({ since: { epoch: "epoch-1", offset: 1 } }).catch(() => {});
    await turns(moment);
    await server.channel("room").unsubscribe();
    await browser.pass(60_000);
    await server.channel("room").publish("live");
    await browser.settle();
    const isThere = client.channel("room").state.name === "subscribed";
    expect([moment, client.channel("room").state.name, heard.includes("live")]).toEqual([moment, isThere ? "subscribed" : "unsubscribed", isThere]);
    expect(server.channel("room").subscribers).toEqual(isThere ? ["ana"] : []);
  }
});

test("a connection lost at any moment of a subscription delivers every message once", async () => {
  for (const moment of MOMENTS) {
    const server = new FakeServer();
    const browser = new Browser(server);
    const pages = [await browser.connected(), await browser.connected()];
    const heard: unknown[][] = [[], []];
    await server.channel("room").publish(0);
    for (const [n, { client }] of pages.entries()) {
      client.channel("room").on("message", ({ content }) => heard[n]!.push(content));
      void client.channel("room").subscribe({ since: { epoch: "epoch-1", offset: 0 } }).catch(() => {});
    }
    await turns(moment);
    await server.cut();
    await server.channel("room").publish(1);
    await server.restore();
    await turns(moment);
    await server.channel("room").publish(2);
    await browser.pass(30_000);
    expect([moment, ...heard]).toEqual([moment, [0, 1, 2], [0, 1, 2]]);
  }
});

test("a page that closes at any moment leaves nothing behind", async () => {
  for (const moment of MOMENTS) {
    const server = new FakeServer();
    const browser = new Browser(server);
    const stays = await browser.connected();
    await stays.client.channel("both").subscribe();
    const goes = browser.page();
    void goes.client.connect().catch(() => {});
    for (const name of ["both", "own"]) void goes.client.channel(name).subscribe().catch(() => {});
    await turns(moment);
    if (moment % 2) await goes.end();
    else goes.client.close();
    await browser.pass(30_000);
    expect([moment, server.users, server.channel("both").subscribers, server.channel("own").subscribers]).toEqual([moment, ["ana"], ["ana"], []]);
    await stays.end();
    await browser.pass(1_000);
    expect([moment, server.users]).toEqual([moment, []]);
  }
});

test("a worker that ends before it has named its lock is replaced, even without a network", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const request = browser.locks.request.bind(browser.locks);
  browser.locks.request = (name, held) => (name.startsWith("hauyna worker") ? new Promise(() => {}) : request(name, held));
  await server.cut();
  const page = await browser.connected();
  await browser.pass(30_000);
  await browser.kill();
  await server.restore();
  await browser.pass(120_000);
  expect([page.client.state.name, browser.started]).toEqual(["connected", 2]);
});

test("a page that reconnects by itself causes no leave", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const page = await browser.connected();
  await page.client.channel("room").subscribe();
  for (let n = 0; n < 3; n++) {
    page.client.reconnect();
    await browser.pass(20_000);
  }
  await server.channel("room").publish(1);
  await browser.settle();
  expect([page.client.state.name, page.client.channel("room").position?.offset]).toEqual(["connected", 1]);
  expect([server.requests("subscribe_channel").length, server.requests("unsubscribe_channel").length]).toEqual([1, 0]);
});

test("a page that is informed of the permanent close while it is closed can connect again", async () => {
  let isRevoked = false;
  const authenticate = () => {
    if (isRevoked) throw new Error("revoked");
    return "ana";
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await server.cut();
  await browser.pass(30_000);
  isRevoked = true;
  // The page closes at the same moment.
  void server.restore();
  two.client.close();
  await browser.settle();
  expect(one.client.state.name).toBe("closed");
  isRevoked = false;
  await two.client.connect();
  expect(server.users).toEqual(["ana"]);
});

/** Drops the server's answers while `isDeaf`. */
function deaf(server: FakeServer): { isDeaf: boolean } {
  const state = { isDeaf: false };
  const Real = server.WebSocket;
  const Deaf = class extends Real {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      let listener: ((event: any) => void) | null = null;
      Object.defineProperty(this, "onmessage", {
        get: () => (event: { data: string }) => !(state.isDeaf && event.data.includes('"ack"')) && listener?.(event),
        set: (given) => (listener = given),
      });
    }
  };
  Object.defineProperty(server, "WebSocket", { value: Deaf as WebSocketConstructor });
  return state;
}

test("a publication without an echo whose answer is lost does not block the channel", async () => {
  const server = new FakeServer();
  const state = deaf(server);
  const browser = new Browser(server);
  const { client } = await browser.connected();
  const heard: unknown[] = [];
  client.channel("room").on("message", ({ content }) => heard.push(content));
  await client.channel("room").subscribe();
  state.isDeaf = true;
  const published = client.channel("room").publish("quiet", { echo: false });
  const failed = expect(published).rejects.toMatchObject({ kind: "timeout" });
  await browser.settle();
  await server.channel("room").publish("live", { user: "bob" });
  await browser.pass(15_000);
  await failed;
  expect(heard).toEqual(["live"]);
});

test("requests that are never answered do not fill the worker forever", async () => {
  const server = new FakeServer();
  const state = deaf(server);
  server.answer("slow", () => 1);
  const browser = new Browser(server);
  const { client } = await browser.connected();
  state.isDeaf = true;
  for (let n = 0; n < 3; n++) {
    const asked = Array.from({ length: 900 }, () => client.request("slow"));
    const outcomes = Promise.allSettled(asked);
    await browser.pass(11_000);
    expect((await outcomes).every(({ status }) => status === "rejected")).toBe(true);
  }
  state.isDeaf = false;
  expect(await client.request("slow")).toBe(1);
});

test("a client event that the channel does not accept reaches no other page", async () => {
  const server = new FakeServer({ channels: { clientEvents: { cursor: 20 } } });
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  const heard: unknown[] = [];
  for (const { client } of [one, two]) {
    client.channel("room").onEvent("shout", () => heard.push("shout"));
    client.channel("room").onEvent("cursor", () => heard.push("cursor"));
    await client.channel("room").subscribe();
  }
  one.client.channel("room").send("shout");
  one.client.channel("room").send("cursor");
  await browser.pass(2_000);
  expect(heard).toEqual(["cursor"]);
});
