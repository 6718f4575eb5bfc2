// Pages of one worker, one of which has credentials that the server refuses.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

test("a page whose credentials are refused does not close the others", async () => {
  const ended = new Set<string>();
  const authenticate = ({ token = "" }) => {
    if (ended.has(token)) throw new Error("ended");
    return token.replace(/-.*/, "");
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  const tokens = ["ana-1", "ana-2", "ana-3"];
  const pages = [];
  for (const token of tokens) pages.push(await browser.connected({ getToken: () => token }));
  expect(server.users).toEqual(["ana"]);
  const closed = { name: "closed", code: 3500, reason: "ended" };
  // These two are asked first.
  ended.add("ana-2").add("ana-3");
  await server.drop(1006);
  await browser.pass(60_000);
  expect(pages.map(({ client }) => client.state)).toMatchObject([{ name: "connected" }, closed, closed]);
});

test("a new page whose credentials are refused does not close those that wait for the network", async () => {
  const authenticate = ({ token = "" }) => {
    if (token === "bad") throw new Error("bad");
    return token.replace(/-.*/, "");
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  const one = await browser.connected({ getToken: () => "ana-1" });
  await server.cut();
  await browser.pass(20_000);
  const two = await browser.connected({ getToken: () => "bad" });
  await server.restore();
  await browser.pass(60_000);
  expect([one, two].map(({ client }) => client.state.name)).toEqual(["connected", "closed"]);
});

test("pages whose credentials are all refused are closed, and the attempts end", async () => {
  let attempts = 0;
  let isEnded = false;
  const authenticate = ({ token = "" }) => {
    attempts++;
    if (isEnded) throw new Error("ended");
    return token.replace(/-.*/, "");
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  const pages = [await browser.connected({ getToken: () => "ana-1" }), await browser.connected({ getToken: () => "ana-2" })];
  await pages[0]?.freeze();
  isEnded = true;
  attempts = 0;
  await server.drop(1006);
  await browser.pass(20_000);
  await pages[0]?.thaw();
  await browser.pass(60_000);
  expect([attempts, pages.map(({ client }) => client.state)]).toMatchObject([2, pages.map(() => ({ name: "closed", code: 3500, reason: "ended" }))]);
  isEnded = false;
  await Promise.all(pages.map(({ client }) => client.connect()));
  expect(server.users).toEqual(["ana"]);
});

/** Hides the reason of refusals, as a browser does, which does not tell a page why a handshake has failed. */
function withoutReasons(server: FakeServer): void {
  const Original = server.WebSocket;
  const Blind = class extends Original {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      let listener: ((event: object) => void) | null = null;
      Object.defineProperty(this, "onclose", {
        get: () => () => listener?.({ code: 1006, reason: "" }),
        set: (value) => (listener = value),
      });
    }
  };
  Object.assign(server, { WebSocket: Blind });
}

test("a page whose credentials lead to no connection does not keep the others from sending theirs", async () => {
  const ended = new Set<string>();
  const authenticate = ({ token = "" }) => {
    if (ended.has(token)) throw new Error("ended");
    return token.replace(/-.*/, "");
  };
  const server = new FakeServer({ authenticate });
  withoutReasons(server);
  const browser = new Browser(server);
  const one = await browser.connected({ getToken: () => "ana-1" });
  await browser.connected({ getToken: () => "ana-2" });
  ended.add("ana-2");
  await server.drop(1006);
  await browser.pass(60_000);
  expect([one.client.state.name, server.users]).toEqual(["connected", ["ana"]]);
});

test("a page that is not frozen gives the credentials, however many others are frozen", async () => {
  const server = new FakeServer({ authenticate: ({ token = "" }) => token.replace(/-.*/, "") });
  const browser = new Browser(server);
  const one = await browser.connected({ getToken: () => "ana-1" });
  for (let n = 0; n < 12; n++) await (await browser.connected({ getToken: () => "ana-2" })).freeze();
  await server.drop(1006);
  await browser.pass(120_000);
  expect([one.client.state.name, server.users]).toEqual(["connected", ["ana"]]);
});

test("a slow page gives the credentials, however many others are frozen", async () => {
  for (const [frozen, delay, connectTimeout] of [[11, 300, 10_000], [15, 2000, 10_000], [12, 2000, 3000], [15, 300, 3000]] as const) {
    const server = new FakeServer({ authenticate: ({ token = "" }) => token.replace(/-.*/, "") });
    const browser = new Browser(server);
    let wait = 0;
    const getToken = () => new Promise<string>((give) => void browser.environment.after(wait, () => give("ana-1")));
    const page = browser.page({ connectTimeout, getToken });
    void page.client.connect();
    await browser.pass(100);
    for (let n = 0; n < frozen; n++) await (await browser.connected({ connectTimeout, getToken: () => "ana-2" })).freeze();
    wait = delay;
    await server.drop(1006);
    await browser.pass(120_000);
    expect([frozen, delay, page.client.state.name, server.users]).toEqual([frozen, delay, "connected", ["ana"]]);
  }
});
