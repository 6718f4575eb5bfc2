// Channels of pages that share a connection: each page behaves as with its own socket.

import { expect, test, vi } from "vitest";
import { msgpack } from "../src/index.js";
import { createMessageList } from "../src/stores.js";
import { FakeServer, Refusal } from "../src/testing.js";
import { Browser, type Page } from "./shared-world.js";

/** Returns two connected pages that are subscribed to `room`, and the messages that each receives. */
async function inRoom(server: FakeServer): Promise<{ browser: Browser; pages: [Page, Page]; heard: [unknown[], unknown[]] }> {
  const browser = new Browser(server);
  const pages: [Page, Page] = [await browser.connected(), await browser.connected()];
  const heard: [unknown[], unknown[]] = [[], []];
  for (const [n, { client }] of pages.entries()) {
    client.channel("room").on("message", ({ content }) => heard[n as 0 | 1].push(content));
    await client.channel("room").subscribe();
  }
  return { browser, pages, heard };
}

/** Ends the connection and its session. */
async function lost(browser: Browser): Promise<void> {
  await browser.server.cut();
  await browser.pass(70_000);
  await browser.server.restore();
  await browser.pass(5_000);
}

test("a subscription that the server ends ends in every page, and can be requested again", async () => {
  const server = new FakeServer();
  const { browser, pages, heard } = await inRoom(server);
  await server.channel("room").unsubscribe();
  await browser.settle();
  expect(pages.map(({ client }) => client.channel("room").state.name)).toEqual(["unsubscribed", "unsubscribed"]);
  expect(server.requests("unsubscribe_channel")).toEqual([]);
  await pages[1].client.channel("room").subscribe();
  await server.channel("room").publish("x");
  await browser.settle();
  expect(heard).toEqual([[], ["x"]]);
});

test("a reconnect keeps the subscriptions, reports no leave and misses no message", async () => {
  const server = new FakeServer();
  const { browser, pages, heard } = await inRoom(server);
  const bob = await server.connected({ user: "bob" });
  const seen: string[] = [];
  await bob.channel("room").subscribe();
  for (const event of ["join", "leave"] as const) bob.channel("room").presence.on(event, ({ user }) => seen.push(`${event} ${user}`));
  for (let n = 0; n < 3; n++) {
    await server.cut();
    await server.channel("room").publish(n);
    await server.restore();
    // The connection is lost again before the pages have subscribed again.
    await server.drop(1006);
    await browser.pass(20_000);
  }
  await browser.pass(30_000);
  expect(pages.map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
  expect(heard).toEqual([[0, 1, 2], [0, 1, 2]]);
  expect(seen).toEqual([]);
  expect(server.requests("unsubscribe_channel")).toEqual([]);
});

test("subscriptions cancelled before the answer free their place and leave none behind", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  const subscribed = vi.fn();
  for (let n = 0; n < 200; n++) {
    void client.channel(`room:${n}`).subscribe().catch(() => {});
    // The request is on its way from the page to the worker, and from there to the server.
    for (let turn = 0; turn < n % 25; turn++) await undefined;
    void client.channel(`room:${n}`).unsubscribe();
    await browser.settle();
  }
  void client.channel("last").subscribe().then(subscribed);
  await browser.settle();
  expect(subscribed).toHaveBeenCalledOnce();
  const left = Array.from({ length: 200 }, (_, n) => server.channel(`room:${n}`).subscribers);
  expect(left.flat()).toEqual([]);
});

test("a page may subscribe and unsubscribe as often as it likes", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  const room = client.channel("room");
  const heard: unknown[] = [];
  room.on("message", ({ content }) => heard.push(content));
  for (let n = 0; n < 30; n++) {
    void room.subscribe().catch(() => {});
    for (let turn = 0; turn < n; turn++) await undefined;
    void room.unsubscribe();
    for (let turn = 0; turn < n % 7; turn++) await undefined;
  }
  await room.subscribe();
  await server.channel("room").publish("x");
  await browser.settle();
  expect(heard).toEqual(["x"]);
  void room.unsubscribe();
  await browser.settle();
  expect(server.channel("room").subscribers).toEqual([]);
});

test("a subscription that fails because of the history is cancelled", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  await server.channel("room").publish("1");
  server.refuse("history", new Refusal("permission_denied"));
  await expect(client.channel("room").subscribe({ since: { epoch: "epoch-1", offset: 0 } })).rejects.toMatchObject({ type: "permission_denied" });
  await browser.settle();
  expect(server.channel("room").subscribers).toEqual([]);
});

test("a page's fresh token is used even if the worker has an old one", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  let tokens = 0;
  await client.channel("room").subscribe({ getToken: () => `t${++tokens}` });
  // The first token has expired. A client that shows it is refused.
  server.refuse("subscribe_channel", new Refusal("permission_denied", "ended"));
  await lost(browser);
  expect(server.requests("subscribe_channel").map(({ token }) => token)).toEqual(["t1", "t1", "t2"]);
  expect(client.channel("room").state.name).toBe("subscribed");
});

test("each page's token is checked, and a refusal reaches the page that sent the token", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  server.refuse("subscribe_channel", new Refusal("permission_denied"), Infinity);
  const asked = [one, two].map(({ client }, n) => client.channel("room").subscribe({ getToken: () => `bad-${n}` }));
  for (const promise of asked) await expect(promise).rejects.toMatchObject({ type: "permission_denied" });
  expect(server.requests("subscribe_channel").map(({ token }) => token)).toEqual(expect.arrayContaining(["bad-0", "bad-1"]));
});

test("options that a page changes are kept, and options that it omits stay those of the others", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await one.client.channel("room").subscribe({ metadata: { device: "phone" }, getToken: () => "t" });
  await two.client.channel("room").subscribe();
  await two.client.channel("room").presence.update({ mood: "busy" });
  await lost(browser);
  expect(server.requests("subscribe_channel").at(-1)).toMatchObject({ metadata: { mood: "busy" }, token: "t" });
});

test.each([[{}], [{ history: 0 }]])("a publication without an echo reaches only the other pages, in a channel with %j", async (channels) => {
  const server = new FakeServer({ channels });
  const { browser, pages, heard } = await inRoom(server);
  const [one, two] = pages.map(({ client }) => client.channel("room"));
  await server.channel("room").publish("same", { user: "bob" });
  await Promise.all([one!.publish("a", { echo: false }), two!.publish("b", { echo: false }), one!.publish("c"), one!.publish("same", { echo: false })]);
  await browser.settle();
  expect(heard).toEqual([["same", "b", "c"], ["same", "a", "c", "same"]]);
  // A repetition is not delivered, and suppresses no message of another page.
  await one!.publish("once", { echo: false, key: "k" });
  await one!.publish("once", { echo: false, key: "k" });
  await browser.pass(20_000);
  await two!.publish("once");
  await browser.settle();
  expect(heard.map((all) => all.slice(-2))).toEqual([["c", "once"], ["once", "once"]]);
});

test("a list shows an own message once in a channel without offsets", async () => {
  const server = new FakeServer({ channels: { history: 0 } });
  const { browser, pages } = await inRoom(server);
  const { client } = pages[0];
  const list = createMessageList(client, client.channel("room") as never);
  list.subscribe(() => {});
  await list.publish("mine");
  await browser.settle();
  expect(list.get().messages).toMatchObject([{ kind: "message", content: "mine" }]);
});

test("a refused publication without an echo hides no other message", async () => {
  const server = new FakeServer({ channels: { history: 0 } });
  const { browser, pages, heard } = await inRoom(server);
  server.refuse("channel_message");
  await expect(pages[0].client.channel("room").publish("x", { echo: false })).rejects.toMatchObject({ type: "permission_denied" });
  await pages[1].client.channel("room").publish("x");
  await browser.settle();
  expect(heard).toEqual([["x"], ["x"]]);
});

test("a channel that the server has subscribed is subscribed in every page, even in later ones", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const one = await browser.connected();
  await server.send("ana", { type: "subscribed", channel: "news", epoch: "epoch-1", offset: 0, recoverable: true });
  const two = await browser.connected();
  const heard: unknown[] = [];
  for (const [n, { client }] of [one, two].entries()) client.channel("news").on("message", ({ content }) => heard.push([n, content]));
  const say = (offset: number) => server.send("ana", { type: "message", channel: "news", content: offset, timestamp: 1, offset });
  await say(1);
  await browser.settle();
  expect(heard).toEqual([[0, 1], [1, 1]]);
  await two.client.channel("news").unsubscribe();
  expect(server.requests("unsubscribe_channel")).toEqual([]);
  await say(2);
  await browser.settle();
  expect(heard.slice(2)).toEqual([[0, 2]]);
});

test("a subscription that the server ends and starts again at once is kept", async () => {
  const server = new FakeServer();
  const { browser, pages } = await inRoom(server);
  await server.send("ana", { type: "unsubscribed", channel: "room" });
  await server.send("ana", { type: "subscribed", channel: "room", epoch: "epoch-1", offset: 0, recoverable: true });
  await browser.settle();
  expect(pages.map(({ client }) => client.channel("room").state.name)).toEqual(["subscribed", "subscribed"]);
  expect(server.requests("unsubscribe_channel")).toEqual([]);
});

test("a message to the user reaches every page, even if it names a channel", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  const heard: unknown[] = [];
  for (const { client } of pages) client.on("invite", ({ channel }) => heard.push(channel));
  await server.send("ana", { type: "invite", channel: "room:7" });
  await browser.settle();
  expect(heard).toEqual(["room:7", "room:7"]);
});

test("messages that a move cannot recover are a gap in each page", async () => {
  const server = new FakeServer({ channels: { history: 0 } });
  const { browser, pages } = await inRoom(server);
  const gaps: string[] = [];
  for (const { client } of pages) client.onGap(({ reason }) => gaps.push(reason));
  await server.send("ana", { type: "reconnect", after: [0, 0], reason: "drain" });
  await browser.pass(30_000);
  expect(server.users).toEqual(["ana"]);
  expect(gaps).toEqual(["not_recoverable", "not_recoverable"]);
  expect(pages.map(({ client }) => client.state.name)).toEqual(["connected", "connected"]);
});

test("bytes stay bytes between pages of either encoding", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected({ codec: msgpack }), await browser.connected({ codec: msgpack })];
  const heard: unknown[] = [];
  for (const { client } of pages.slice(1)) {
    client.channel("room").on("message", ({ content }) => heard.push(content));
    await client.channel("room").subscribe();
  }
  await pages[1]!.client.channel("room").publish(new Uint8Array([1, 2, 3]));
  await browser.settle();
  expect(heard).toEqual([new Uint8Array([1, 2, 3]), new Uint8Array([1, 2, 3])]);
  expect(server.users).toEqual(["ana", "ana"]);
});

test("a page receives the presence list even if the server has asked the worker to wait", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await one.client.channel("room").subscribe();
  await server.channel("room").join("bob");
  server.refuse("presence", new Refusal("rate_limited", "slow down", { retry_after: 5000 }));
  await two.client.channel("room").subscribe();
  await browser.pass(10_000);
  expect([...two.client.channel("room").presence.users.keys()]).toEqual(["ana", "bob"]);
});

test("a long-lived worker keeps no memory of unsubscribed channels", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const { client } = await browser.connected();
  for (let n = 0; n < 50; n++) {
    await client.channel(`room:${n}`).subscribe({ getToken: () => "t" });
    await client.channel(`room:${n}`).unsubscribe();
  }
  await browser.settle();
  // Messages of a channel without a subscriber are passed on as messages to the user.
  const heard: unknown[] = [];
  client.on("note", ({ channel }) => heard.push(channel));
  await server.send("ana", { type: "note", channel: "room:7" });
  await browser.settle();
  expect(heard).toEqual(["room:7"]);
});

test("presence is requested at most once a second and by one subscription, whenever the server allows a retry", async () => {
  const server = new FakeServer();
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await one.client.channel("room").subscribe();
  server.refuse("presence", new Refusal("rate_limited", "slow down", { retry_after: 1 }), 1000);
  const room = two.client.channel("room");
  for (let n = 0; n < 3; n++) {
    const share = await room.subscribe();
    await browser.settle();
    if (n < 2) await share.unsubscribe();
  }
  const before = server.requests("presence").length;
  await browser.pass(10_000);
  expect(server.requests("presence").length - before).toBe(10);
});
