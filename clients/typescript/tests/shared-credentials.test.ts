// Pages of two users with one worker, while their credentials are slow, change, or are renewed.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import type { Environment, WebSocketConstructor } from "../src/index.js";
import { linkedClient } from "../src/shared-link.js";
import { TabServer } from "../src/shared-worker.js";
import { VERSION } from "../src/shared-messages.js";
import { Browser } from "./shared-world.js";
import { Peer, World, settle } from "./world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/** Returns a server whose tokens are a user's name and a number. */
function withTokens(): FakeServer {
  return new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? "guest" });
}

/** Returns credentials that are given when the test says so. */
function slow() {
  const asked: ((token: string) => void)[] = [];
  return { asked, getToken: () => new Promise<string>((resolve) => asked.push(resolve)) };
}

test("late credentials of a page do not replace those with which another page has connected", async () => {
  const server = withTokens();
  const browser = new Browser(server);
  const ana = slow();
  const bob = slow();
  const pages = [await browser.connected({ getToken: ana.getToken }), await browser.connected({ getToken: bob.getToken })];
  // First one page is asked alone. When its time is up, it is asked again together with the second.
  await server.drop(1006);
  await browser.pass(20_000);
  expect(bob.asked.length).toBeGreaterThan(0);
  // Both pages answer before the socket is open.
  for (const give of ana.asked) give("ana-1");
  for (const give of bob.asked) give("bob-1");
  await browser.settle();
  for (let n = 0; n < 5; n++) {
    await browser.pass(10_000);
    for (const give of ana.asked) give("ana-1");
    for (const give of bob.asked) give("bob-1");
  }
  expect(pages.map(({ client }) => client.user)).toEqual(["ana", "bob"]);
});

test("a page whose client was closed sends its credentials again when it connects", async () => {
  const browser = new Browser(withTokens());
  const one = await browser.connected({ getToken: () => "ana-1" });
  let user = "ana";
  const two = await browser.connected({ getToken: () => `${user}-2` });
  expect([one, two].map(({ client }) => client.user)).toEqual(["ana", "ana"]);
  two.client.close();
  user = "bob";
  void two.client.connect();
  await browser.pass(20_000);
  expect([one, two].map(({ client }) => client.user)).toEqual(["ana", "bob"]);
});

test("a page that reconnects by itself sends its credentials again", async () => {
  const browser = new Browser(withTokens());
  const one = await browser.connected({ getToken: () => "ana-1" });
  let user = "ana";
  const two = await browser.connected({ getToken: () => `${user}-2` });
  user = "bob";
  two.client.reconnect();
  await browser.pass(20_000);
  expect([one, two].map(({ client }) => client.user)).toEqual(["ana", "bob"]);
});

test("the page that gave the connection its credentials sends them again, too", async () => {
  const browser = new Browser(withTokens());
  let user = "ana";
  const one = await browser.connected({ getToken: () => `${user}-1` });
  const two = await browser.connected({ getToken: () => "ana-2" });
  one.client.close();
  user = "bob";
  void one.client.connect();
  await browser.pass(20_000);
  expect([one, two].map(({ client }) => client.user)).toEqual(["bob", "ana"]);
});

test("a page that was closed before its turn is not asked for the connection's credentials", async () => {
  const server = withTokens();
  const browser = new Browser(server);
  let user = "ana";
  const one = await browser.connected({ getToken: () => `${user}-1` });
  const two = await browser.connected({ getToken: () => "ana-2" });
  await two.freeze();
  await server.drop(1006);
  // The newest page is asked, and does not answer.
  await browser.pass(1000);
  one.client.close();
  await browser.pass(5000);
  user = "bob";
  void one.client.connect();
  await browser.pass(20_000);
  await two.thaw();
  await browser.pass(60_000);
  expect([one, two].map(({ client }) => client.user)).toEqual(["bob", "ana"]);
});

/** A page of a worker, as the messages between them. */
class Raw {
  readonly heard: any[] = [];
  readonly #port = { onmessage: null as ((event: never) => void) | null, postMessage: (message: unknown) => void this.heard.push(message) };

  constructor(tabs: TabServer) {
    tabs.join(this.#port);
    const settings = { url: "wss://server.example/live", protocol: "hauyna.v1", hasToken: true };
    this.say({ say: "hello", version: VERSION, lock: undefined, settings }, { say: "open", socket: 1 });
  }

  say(...messages: object[]): void {
    for (const data of messages) this.#port.onmessage?.({ data } as never);
  }

  /** Answers the latest request for credentials. Returns whether it was a renewal. */
  async give(token: string): Promise<boolean> {
    await settle();
    const { id, isRefresh } = this.heard.findLast(({ say }) => say === "token?");
    this.say({ say: "token", id, token, hasFailed: false });
    await settle();
    return isRefresh;
  }

  get says(): string[] {
    return this.heard.map(({ say }) => say);
  }
}

/** Returns the worker's side, whose server is the test. */
function served(): { world: World; tabs: TabServer } {
  const world = new World();
  class Fake extends Peer {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      world.sockets.push(this);
    }
  }
  return { world, tabs: new TabServer({ environment: world, locks: undefined, WebSocket: Fake, onShown() {} }) };
}

test("sharing pages renew the credentials, and the server decides which other pages may share", async () => {
  const { world, tabs } = served();
  const ana = new Raw(tabs);
  await ana.give("ana-1");
  await world.socket.accept({ expires_in: 60_000 });
  expect(ana.says).toContain("opened");
  // Another user has signed in, and the page still has the connection.
  await world.pass(54_000);
  expect(await ana.give("bob-1")).toBe(true);
  expect(world.socket.last("refresh")).toMatchObject({ token: "bob-1" });
  await world.socket.refuse("refresh", "unauthorized");
  const bob = new Raw(tabs);
  await bob.give("bob-1");
  await world.socket.refuse("refresh", "unauthorized");
  expect(bob.says).not.toContain("opened");
  expect(bob.says).toContain("alone");
});

test("a page that is not known to be of the connection's user does not renew its credentials", async () => {
  const { world, tabs } = served();
  const ana = new Raw(tabs);
  await ana.give("ana-1");
  await world.socket.accept({ expires_in: 60_000 });
  await world.pass(53_999);
  const bob = new Raw(tabs);
  await settle();
  await world.pass(1);
  expect(await bob.give("bob-1")).toBe(false);
  expect(await ana.give("ana-2")).toBe(true);
  expect(world.socket.all("refresh").map(({ token }) => token)).toEqual(["bob-1", "ana-2"]);
});

test("a page whose worker cannot be created connects with its own credentials from the start", async () => {
  const server = withTokens();
  const { environment } = server.clientOptions as { environment: Environment };
  const host = { environment, locks: undefined, WebSocket: server.WebSocket as WebSocketConstructor, onShown() {} };
  const worker = (): never => {
    throw new Error("not by this page's policy");
  };
  const client = linkedClient("wss://fake.example/", worker, { getToken: () => "ana-1" }, host);
  void client.connect();
  for (let n = 0; n < 10; n++) await server.settled();
  expect([client.state.name, client.user]).toEqual(["connected", "ana"]);
});
