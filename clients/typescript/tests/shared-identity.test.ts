// Which pages share a connection, and whose credentials it has: pages of two users of one origin never have
// the same session.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer, Refusal } from "../src/testing.js";
import { Browser } from "./shared-world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/** Returns a server whose tokens are a user's name and a number, and all tokens that it has received. */
function withTokens(): { server: FakeServer; shown: string[]; ended: Set<string> } {
  const shown: string[] = [];
  const ended = new Set<string>();
  const authenticate = ({ token }: { token: string | undefined }) => {
    shown.push(token ?? "none");
    if (token === undefined) return "guest";
    if (ended.has(token)) throw new Refusal("unauthorized", "ended");
    return token.replace(/-.*/, "");
  };
  return { server: new FakeServer({ authenticate }), shown, ended };
}

test("pages of two addresses have separate connections, even in one worker", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const ana = await browser.connected({ url: "wss://fake.example/?user=ana" });
  const bob = await browser.connected({ url: "wss://fake.example/?user=bob" });
  expect([ana.client.user, bob.client.user, server.users]).toEqual(["ana", "bob", ["ana", "bob"]]);
  const heard: unknown[] = [];
  bob.client.on("private", ({ message }) => heard.push(message));
  await server.send("ana", { type: "private", message: "for ana alone", timestamp: 1 });
  await browser.settle();
  expect(heard).toEqual([]);
});

test("a page with another user's credentials has its own connection, even in the same worker", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  const ana = await browser.connected({ getToken: () => "ana-1" });
  const bob = await browser.connected({ getToken: () => "bob-1" });
  const again = await browser.connected({ getToken: () => "ana-2" });
  await browser.pass(10_000);
  expect([ana, bob, again].map(({ client }) => client.user)).toEqual(["ana", "bob", "ana"]);
  expect(server.users).toEqual(["ana", "bob"]);
});

test("a page without credentials does not share a connection that has some", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  const ana = await browser.connected({ getToken: () => "ana-1" });
  const pages = [await browser.connected({ getToken: () => undefined }), await browser.connected()];
  await browser.pass(10_000);
  expect([ana, ...pages].map(({ client }) => client.user)).toEqual(["ana", "guest", "guest"]);
});

test("when another user signs in, no page continues unnoticed on that user's connection", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  let user = "ana";
  const one = await browser.connected({ getToken: () => "ana-1" });
  const two = await browser.connected({ getToken: () => `${user}-2` });
  expect(server.users).toEqual(["ana"]);
  user = "bob";
  await server.drop(1006);
  await browser.pass(20_000);
  expect([one.client.user, two.client.user]).toEqual(["ana", "bob"]);
  expect([...server.users].sort()).toEqual(["ana", "bob"]);
});

test("a page that fails to get credentials does not use those of another page", async () => {
  const { server, shown } = withTokens();
  const browser = new Browser(server);
  const one = await browser.connected({ getToken: () => "ana-1" });
  let isSignedIn = false;
  const two = await browser.connected({ getToken: () => (isSignedIn ? "ana-2" : Promise.reject(new Error("signed out"))) });
  await browser.pass(10_000);
  expect([one.client.state.name, two.client.state.name, two.client.user]).toEqual(["connected", "connecting", undefined]);
  isSignedIn = true;
  await browser.pass(60_000);
  expect([two.client.user, server.users, shown]).toEqual(["ana", ["ana"], ["ana-1", "ana-2"]]);
});

test("the worker does not connect without credentials if no page has any", async () => {
  const { server, shown } = withTokens();
  const browser = new Browser(server);
  let isSignedIn = true;
  const getToken = () => (isSignedIn ? "ana-1" : Promise.reject(new Error("no network")));
  const pages = [await browser.connected({ getToken }), await browser.connected({ getToken })];
  isSignedIn = false;
  await server.drop(1006);
  await browser.pass(60_000);
  expect(shown).toEqual(["ana-1"]);
  isSignedIn = true;
  await browser.pass(60_000);
  expect(pages.map(({ client }) => client.user)).toEqual(["ana", "ana"]);
});

test("frozen pages do not delay the credentials", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  const pages = [];
  for (let n = 0; n < 6; n++) pages.push(await browser.connected({ getToken: () => "ana-1" }));
  const [one, ...others] = pages;
  for (const page of others) await page.freeze();
  await server.drop(1006);
  await browser.pass(20_000);
  expect(one!.client.state.name).toBe("connected");
  for (const page of others) await page.thaw();
  await browser.pass(20_000);
  expect(pages.map(({ client }) => client.state.name)).toEqual(pages.map(() => "connected"));
  expect(server.users).toEqual(["ana"]);
});

test("a page whose client is closed is not asked for credentials", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  const one = await browser.connected({ getToken: () => "ana-1" });
  const asked = vi.fn(() => "ana-2");
  const two = await browser.connected({ getToken: asked });
  two.client.close();
  asked.mockClear();
  await server.drop(1006);
  await browser.pass(20_000);
  expect(one.client.state.name).toBe("connected");
  expect(asked).not.toHaveBeenCalled();
});

test("if the server renews no credentials, the worker's name decides who shares", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected({ getToken: () => "a" }), await browser.connected({ getToken: () => "b" })];
  expect(pages.map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
  expect(server.users).toEqual(["ana"]);
});

test("a temporary refusal of the credentials is retried", async () => {
  const { server } = withTokens();
  const browser = new Browser(server);
  await browser.connected({ getToken: () => "ana-1" });
  server.refuse("refresh", new Refusal("rate_limited", "slow down", { retry_after: 10 }));
  const two = await browser.connected({ getToken: () => "ana-2" });
  await browser.pass(20_000);
  expect([two.client.user, server.users]).toEqual(["ana", ["ana"]]);
});

test("a page that stops sharing between its credentials and its socket does not connect without credentials", async () => {
  const { server, shown } = withTokens();
  const browser = new Browser(server);
  await browser.connected({ getToken: () => "ana-1" });
  let answer = (_: string) => {};
  let isSlow = true;
  const getToken = () => (isSlow ? new Promise<string>((resolve) => (answer = resolve)) : "bob-1");
  const bob = await browser.connected({ getToken });
  answer("bob-1");
  isSlow = false;
  // The answer reaches the worker, and its messages wait at the page.
  bob.isFrozen = true;
  await browser.settle();
  bob.isFrozen = false;
  bob.client.reconnect();
  await bob.thaw();
  await browser.pass(10_000);
  expect([bob.client.state.name, bob.client.user, shown.includes("none")]).toEqual(["connected", "bob", false]);
});
