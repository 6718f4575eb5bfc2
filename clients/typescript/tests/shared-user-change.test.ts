// Pages of one worker in which another user signs in while messages of the previous user are still on their
// way.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";
import { fate } from "./world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/** Returns a browser whose server reads the user's name from the start of a token. */
function withTokens(): { server: FakeServer; browser: Browser } {
  const server = new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? "guest" });
  return { server, browser: new Browser(server) };
}

test("credentials requested from a page before another user signed in there are ignored", async () => {
  const { browser } = withTokens();
  let user = "ana";
  const asked: (() => void)[] = [];
  const getToken = () => {
    const token = `${user}-1`;
    return new Promise<string>((resolve) => asked.push(() => resolve(token)));
  };
  const page = await browser.connected({ getToken });
  expect(asked).toHaveLength(1);
  user = "bob";
  page.client.reconnect();
  await browser.settle();
  for (let n = 0; n < 20; n++) {
    for (const answer of asked.splice(0)) answer();
    await browser.pass(1000);
    expect([page.client.state.name === "connected", page.client.user]).not.toEqual([true, "ana"]);
  }
  expect([page.client.state.name, page.client.user]).toEqual(["connected", "bob"]);
});

test("requests of a page that the worker has not sent are not sent for another user", async () => {
  const { server, browser } = withTokens();
  const ana = await browser.connected({ getToken: () => "ana-1" });
  await ana.client.channel("room").subscribe();
  // The worker waits for an answer before it moves, and so ana's message waits.
  server.answer("slow" as never, (() => new Promise(() => {})) as never);
  void ana.client.request("slow" as never).catch(() => {});
  await browser.settle();
  await server.send("ana", { type: "reconnect", after: [0, 0], reason: "drain" });
  await browser.settle();
  await server.pass(1);
  await browser.settle();
  let outcome = "";
  ana.client.channel("room").publish("a secret").then(() => (outcome = "published"), ({ kind }) => (outcome = kind));
  await browser.settle();
  expect(server.sent.filter(({ message }) => message.type === "channel_message")).toEqual([]);
  await ana.freeze();
  await server.drop(1006);
  const bob = await browser.connected({ getToken: () => "bob-1" });
  await browser.pass(30_000);
  await ana.thaw();
  await browser.pass(60_000);
  expect([ana, bob].map(({ client }) => client.user)).toEqual(["ana", "bob"]);
  expect([outcome, server.channel("room").messages]).toEqual(["timeout", []]);
});

test("a connection of another user does not continue the subscriptions of a frozen page", async () => {
  const { server, browser } = withTokens();
  const ana = await browser.connected({ getToken: () => "ana-1" });
  await ana.client.channel("room").subscribe();
  await ana.freeze();
  await server.drop(1006);
  const bob = await browser.connected({ getToken: () => "bob-1" });
  await browser.pass(30_000);
  expect([bob.client.state.name, bob.client.user]).toEqual(["connected", "bob"]);
  expect(server.channel("room").subscribers.filter((user) => user !== "ana")).toEqual([]);
});

test("credentials that an earlier worker has requested are not given to the next one", async () => {
  const { server, browser } = withTokens();
  let user = "ana";
  const asked: (() => void)[] = [];
  const getToken = () => {
    const token = `${user}-1`;
    return new Promise<string>((resolve) => asked.push(() => resolve(token)));
  };
  const page = await browser.connected({ getToken });
  user = "bob";
  await browser.kill();
  expect([browser.started, asked.length]).toEqual([2, 2]);
  for (const answer of asked.splice(0)) {
    answer();
    await browser.settle();
  }
  await browser.pass(60_000);
  expect(server.users).toEqual(["bob"]);
  expect([page.client.state.name, page.client.user]).toEqual(["connected", "bob"]);
});

test("a page that reconnects before it knows of the worker's next connection sends its credentials again", async () => {
  const { server, browser } = withTokens();
  let user = "ana";
  const one = await browser.connected({ getToken: () => `${user}-1` });
  const two = await browser.connected({ getToken: () => "ana-2" });
  await server.drop(1006);
  await browser.settle();
  expect(one.client.state.name).toBe("reconnecting");
  await one.freeze();
  await browser.pass(20_000);
  expect([two.client.state.name, two.client.user]).toEqual(["connected", "ana"]);
  user = "bob";
  // The page's own handlers run before the messages that wait at its port.
  one.isFrozen = false;
  one.client.reconnect();
  await one.thaw();
  await browser.pass(20_000);
  expect([one, two].map(({ client }) => [client.state.name, client.user])).toEqual([["connected", "bob"], ["connected", "ana"]]);
});

test("a page with another user's credentials is asked again if the connection does not stay that user's", async () => {
  const shown: string[] = [];
  const authenticate = ({ token = "" }) => {
    shown.push(token);
    return token.replace(/-.*/, "");
  };
  const server = new FakeServer({ authenticate });
  const browser = new Browser(server);
  let user = "ana";
  const one = await browser.connected({ getToken: () => `${user}-1` });
  const two = await browser.connected({ getToken: () => "ana-2" });
  await two.freeze();
  user = "bob";
  await server.drop(1006);
  // The page comes after the frozen one, which runs when everything starts again.
  while (!shown.includes("bob-1")) await browser.pass(100);
  await two.thaw();
  await browser.pass(60_000);
  expect([one, two].map(({ client }) => [client.state.name, client.user])).toEqual([["connected", "bob"], ["connected", "ana"]]);
});

test("requests of the next user in a closed page are sent as that user, even if the credentials are late", async () => {
  const { server, browser } = withTokens();
  let token: string | Promise<string> = "ana-1";
  const page = await browser.connected({ getToken: () => token });
  const before = fate(page.client.sendToUser("eve", "before"));
  page.client.close();
  let signIn = (_: string) => {};
  token = new Promise((resolve) => (signIn = resolve));
  void page.client.connect();
  await browser.settle();
  const own = fate(page.client.sendToUser("eve", "after"));
  await browser.pass(500);
  signIn("bob-1");
  await browser.pass(5000);
  const sent = server.sent.filter(({ message }) => message.type === "private").map(({ user, message }) => [user, message["message"]]);
  expect([page.client.user, before.now, own.now, sent.at(-1)]).toEqual(["bob", "outcome_unknown", "done", ["bob", "after"]]);
});

test("requests of the next user in a closed page are sent as that user, even if another page still has the former user", async () => {
  const { server, browser } = withTokens();
  const other = await browser.connected({ getToken: () => "ana-1" });
  let token = "ana-2";
  const page = await browser.connected({ getToken: () => token });
  page.client.close();
  token = "bob-1";
  void page.client.connect();
  const own = fate(page.client.sendToUser("eve", "after"));
  await browser.pass(20_000);
  const sent = server.sent.filter(({ message }) => message.type === "private").map(({ user, message }) => [user, message["message"]]);
  expect([other.client.user, page.client.user, own.now, sent]).toEqual(["ana", "bob", "done", [["bob", "after"]]]);
});
