// Pages and their shared worker in one process, with a fake server: cases that a browser test cannot produce.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, msgpack } from "../src/index.js";
import { serveTabs, sharedClient } from "../src/shared.js";
import { FakeServer, Refusal } from "../src/testing.js";

let ports: MessagePort[] = [];
let clients: Client[] = [];
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

beforeEach(() => {
  serveTabs();
  const scope = globalThis as unknown as { onconnect: (event: { ports: MessagePort[] }) => void };
  class Worker extends EventTarget {
    readonly port: MessagePort;
    constructor() {
      super();
      const { port1, port2 } = new MessageChannel();
      ports.push(port1, port2);
      this.port = port1;
      scope.onconnect({ ports: [port2] });
    }
  }
  vi.stubGlobal("SharedWorker", Worker);
  // Nothing releases these locks, because no page ends within one process.
  vi.stubGlobal("navigator", { locks: { request: (name: string, held: () => unknown) => (locks.has(name) ? new Promise(() => {}) : (locks.add(name), held())) } });
});
const locks = new Set<string>();

afterEach(() => {
  for (const client of clients) client.close();
  for (const port of ports) port.close();
  [ports, clients] = [[], []];
  vi.unstubAllGlobals();
});

/** Returns the client of a page. */
async function page(server: FakeServer, options: ClientOptions = {}): Promise<Client> {
  vi.stubGlobal("WebSocket", server.WebSocket);
  const client = sharedClient("wss://fake.example/?user=ana", { logger: SILENT, ...options, worker: () => new SharedWorker("") });
  clients.push(client);
  await client.connect();
  return client;
}

test("two pages share one connection, and one subscription that lasts until both have unsubscribed", async () => {
  const server = new FakeServer({ time: "global" });
  const [one, two] = [await page(server), await page(server)];
  const shares = [await one.channel("room").subscribe(), await two.channel("room").subscribe()];
  expect(server.users).toEqual(["ana"]);
  expect(server.requests("subscribe_channel")).toHaveLength(1);
  await shares[0]?.unsubscribe();
  expect(server.channel("room").subscribers).toEqual(["ana"]);
  two.close();
  await expect.poll(() => server.channel("room").subscribers).toEqual([]);
  one.close();
  await expect.poll(() => server.users).toEqual([]);
});

test("client events reach the other page, and those of others reach both, at the channel's rate", async () => {
  const server = new FakeServer({ time: "global", channels: { clientEvents: { cursor: 1000 } } });
  const [one, two] = [await page(server), await page(server, { codec: msgpack })];
  const heard: unknown[] = [];
  for (const [n, client] of [one, two].entries()) {
    await client.channel("board").subscribe();
    client.channel("board").onEvent("cursor", ({ user, data }) => heard.push([n, user, data]));
  }
  one.channel("board").send("cursor", 1);
  await expect.poll(() => heard).toEqual([[1, "ana", 1]]);
  await server.channel("board").send("cursor", 2, "bob");
  await expect.poll(() => heard).toEqual([[1, "ana", 1], [0, "bob", 2], [1, "bob", 2]]);
  expect(server.channel("board").events).toHaveLength(1);
});

test("requests, refusals and client requests pass through, and a page that has the handler answers", async () => {
  const server = new FakeServer({ time: "global" });
  server.answer("rename", ({ name }: { name?: string }) => {
    if (!name) throw new Refusal("validation_error", "a name, please");
    return { name };
  });
  const [one, two] = [await page(server), await page(server)];
  expect(await one.request("rename", { name: "x" })).toEqual({ name: "x" });
  await expect(two.request("rename", {})).rejects.toMatchObject({ type: "validation_error", message: "a name, please" });
  server.refuse("subscribe_channel", new Refusal("permission_denied", "members only"));
  await expect(two.channel("secret").subscribe()).rejects.toMatchObject({ type: "permission_denied" });
  await expect(server.ask("ana", "confirm")).rejects.toThrow("nobody answers this");
  two.onRequest("confirm", () => "yes");
  expect(await server.ask("ana", "confirm")).toBe("yes");
});

test("a page gives the credentials, and a page whose source fails is skipped", async () => {
  const asked: string[] = [];
  const server = new FakeServer({
    time: "global",
    authenticate: ({ token }) => {
      asked.push(token ?? "none");
      return token ?? "nobody";
    },
  });
  const one = await page(server, { getToken: () => "ana" });
  let isSignedOut = false;
  const two = await page(server, { getToken: () => (isSignedOut ? Promise.reject(new Error("signed out")) : "ana") });
  expect([one.user, two.user]).toEqual(["ana", "ana"]);
  isSignedOut = true;
  const states: string[][] = [[], []];
  for (const [n, client] of [one, two].entries()) client.onState(({ name }) => states[n]?.push(name));
  await server.drop(1006);
  await expect.poll(() => states.map((heard) => [...new Set(heard)])).toEqual([
    ["reconnecting", "connected"],
    ["reconnecting", "connected"],
  ]);
  expect(asked).toEqual(["ana", "ana"]);
});

test("missed messages are recovered from the history, and unrecoverable ones are a gap in each page", async () => {
  const server = new FakeServer({ time: "global", channels: { history: 3 } });
  const clients = [await page(server), await page(server)];
  const heard: string[][] = [[], []];
  const gaps: string[] = [];
  for (const [n, client] of clients.entries()) {
    client.channel("room").on("message", ({ content }) => heard[n]?.push(String(content)));
    client.onGap(({ reason }) => gaps.push(reason));
    await client.channel("room").subscribe();
  }
  await server.channel("room").publish("1");
  await server.cut();
  await server.channel("room").publish("2");
  await server.restore();
  await expect.poll(() => heard).toEqual([["1", "2"], ["1", "2"]]);
  await expect.poll(() => clients.map(({ state }) => state.name)).toEqual(["connected", "connected"]);
  expect(gaps).toEqual([]);
  await server.channel("room").forget();
  await expect.poll(() => gaps).toEqual(["epoch_changed", "epoch_changed"]);
  await server.channel("room").publish("3");
  await expect.poll(() => heard).toEqual([["1", "2", "3"], ["1", "2", "3"]]);
});

test("a permanent close by the server closes every page", async () => {
  const server = new FakeServer({ time: "global" });
  const pages = [await page(server), await page(server)];
  await server.drop(3503, "enough");
  await expect.poll(() => pages.map(({ state }) => state)).toMatchObject([1, 2].map(() => ({ name: "closed", code: 3503, reason: "enough" })));
});
