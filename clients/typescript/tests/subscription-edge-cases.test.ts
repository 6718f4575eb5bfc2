// Shares, iterators, the limit of requests, memory and tokens under unusual conditions.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import type { ServerMessage } from "../src/protocol.js";
import { createMessageList } from "../src/stores.js";
import { message, start, subscriber } from "./subscriber.js";
import { type Peer, World, fate, settle } from "./world.js";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** Acknowledges every unanswered request of this type. */
async function ackAll(peer: Peer, type: string, answered: Set<unknown>): Promise<number> {
  const open = peer.all(type).filter(({ id }) => !answered.has(id));
  for (const { id } of open) answered.add(id);
  await peer.say(...open.map(({ id, channel }) => ({ type: "ack", id, data: { channel, recoverable: false } })));
  return open.length;
}

test("a subscribe call that close() rejects has no share", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const lost = fate(room.subscribe());
  client.close();
  await settle();
  expect([lost.now, room.state.name]).toEqual(["closed", "unsubscribed"]);
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(world.socket.all("subscribe_channel")).toEqual([]);
});

test("a subscribe call that close() rejects keeps the shares of others", async () => {
  const { client, room, world } = await subscriber();
  const { unsubscribe } = await room.subscribe();
  await world.socket.drop();
  const lost = fate(room.subscribe());
  client.close();
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(lost.now).toBe("closed");
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true, recovered: true });
  await unsubscribe();
  expect(room.state.name).toBe("subscribed");
});

test("a subscribe call that is rejected because the attempts are used up has no share", async () => {
  const world = new World();
  const client = world.client({ retry: { maxAttempts: 1, baseDelay: 100, maxDelay: 100, backoffMultiplier: 1 } });
  client.connect().catch(() => {});
  const room = client.channel("room");
  const lost = fate(room.subscribe());
  await settle();
  await world.socket.drop();
  await (await world.attempt()).drop();
  expect([client.state.name, lost.now, room.state.name]).toEqual(["closed", "gave_up", "unsubscribed"]);
});

test("for await ends when the application closes the client", async () => {
  const { client, room, world } = await subscriber();
  const heard: unknown[] = [];
  const loop = fate((async () => { for await (const { offset } of room.messages()) heard.push(offset); })());
  await world.socket.say(message(11));
  client.close();
  await settle();
  expect([heard, loop.now]).toEqual([[11], "done"]);
});

test("for await fails when the server closes the client permanently, or the attempts are used up", async () => {
  const { room, world } = await subscriber();
  const loop = fate((async () => { for await (const _ of room.messages()); })());
  await settle();
  await world.socket.drop(3503);
  expect(loop.now).toBe("closed");
});

test("for await that starts before the client connects continues", async () => {
  const world = new World();
  const client = world.client();
  const room = client.channel("room");
  const heard: unknown[] = [];
  const loop = fate((async () => { for await (const { content } of room.messages()) heard.push(content); })());
  await settle();
  void client.connect();
  void room.subscribe();
  await settle();
  await world.socket.accept();
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  await world.socket.say({ type: "message", channel: "room", content: 1, timestamp: 1 });
  expect([heard, loop.now]).toEqual([[1], "pending"]);
});

test("unsubscribing from a hundred channels sends a few requests at a time, in order", async () => {
  const world = new World();
  const client = await world.connected();
  const rooms = Array.from({ length: 100 }, (_, at) => client.channel(`room-${at}`));
  const answered = new Set<unknown>();
  for (const room of rooms) void room.subscribe();
  await settle();
  while (await ackAll(world.socket, "subscribe_channel", answered));
  const ends = rooms.map((room) => fate(room.unsubscribe()));
  // A channel that is subscribed to again is restored after the others.
  for (const room of rooms.slice(0, 50)) void room.subscribe();
  await settle();
  expect(world.socket.all("unsubscribe_channel").length).toBe(16);
  for (let round = 0; round < 40; round++) {
    await ackAll(world.socket, "unsubscribe_channel", answered);
    await ackAll(world.socket, "subscribe_channel", answered);
  }
  expect(ends.filter(({ now }) => now !== "done")).toEqual([]);
  expect(rooms.map(({ state }) => state.name)).toEqual(rooms.map((_, at) => (at < 50 ? "subscribed" : "unsubscribed")));
  for (const room of rooms.slice(0, 50)) {
    const said = world.socket.heard.filter(({ channel }) => channel === room.name).map(({ type }) => type);
    expect(said).toEqual(["subscribe_channel", "unsubscribe_channel", "subscribe_channel"]);
  }
});

test("a queued unsubscribe request is not sent on the next socket of a move", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const rooms = Array.from({ length: 40 }, (_, at) => client.channel(`room-${at}`));
  const answered = new Set<unknown>();
  for (const room of rooms) void room.subscribe();
  await settle();
  while (await ackAll(world.socket, "subscribe_channel", answered));
  for (const room of rooms) void room.unsubscribe();
  for (const room of rooms) void room.subscribe();
  await settle();
  await world.socket.say({ type: "reconnect", after: [0, 0] });
  await world.pass(3000);
  await world.socket.accept({ resumed: false });
  const next = new Set<unknown>();
  for (let round = 0; round < 20; round++) await ackAll(world.socket, "subscribe_channel", next);
  expect(world.socket.all("unsubscribe_channel")).toEqual([]);
  expect(rooms.every(({ state }) => state.name === "subscribed")).toBe(true);
});

test("a channel that the server ended is removed from memory, even if it has a position", async () => {
  const world = new World();
  const client = await world.connected();
  let mark: WeakRef<object>;
  await (async () => {
    const room = client.channel("room");
    mark = new WeakRef(room);
    void room.subscribe();
    await settle();
    await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
    await world.socket.say({ type: "unsubscribed", channel: "room" });
  })();
  for (let n = 0; n < 5; n++) {
    await settle();
    gc();
  }
  expect(mark!.deref()).toBeUndefined();
});

test("a channel with listeners continues from its position after the server has ended it", async () => {
  const { room, world } = await subscriber();
  await world.socket.say({ type: "unsubscribed", channel: "room" });
  void room.subscribe();
  await settle();
  expect(world.socket.last("subscribe_channel")["recover"]).toEqual(start);
});

const entry = (connections = 1) => ({ status: "online", metadata: {}, connections: Array.from({ length: connections }, (_, at) => ({ connection_id: `c${at}`, metadata: {}, joined_at: 1 })) });
const state = (users: string[], offset = 1) => ({ type: "presence_state", channel: "room", count: users.length, users: Object.fromEntries(users.map((user) => [user, entry()])), offset });

test("a presence listener sees all changes of a message at once", async () => {
  const { room, world } = await subscriber();
  const seen: unknown[] = [];
  for (const event of ["join", "leave"] as const) {
    room.presence.on(event, ({ user }) => seen.push([event, user, room.presence.count, [...room.presence.users.keys()].sort().join()]));
  }
  await world.socket.say(state(["ana"]));
  const change = { channel: "room", metadata: {}, status: "online", connections: 1, timestamp: 1 };
  await world.socket.say({ type: "presence_change", event: "join", user: "bo", offset: 2, ...change });
  await world.socket.say({ type: "presence_change", event: "leave", user: "bo", offset: 3, ...change, connections: 0 });
  await world.socket.say({ type: "presence_diff", channel: "room", count: 2, joins: { cy: entry(), di: entry() }, leaves: ["ana"], updates: {}, offset: 9 });
  await world.socket.say(state(["cy"], 10));
  expect(seen).toEqual([
    ["join", "ana", 1, "ana"],
    ["join", "bo", 2, "ana,bo"],
    ["leave", "bo", 1, "ana"],
    ["leave", "ana", 2, "cy,di"],
    ["join", "cy", 2, "cy,di"],
    ["join", "di", 2, "cy,di"],
    ["leave", "di", 1, "cy"],
  ]);
});

test("unsubscribing in a presence listener stops its events and clears the list", async () => {
  const { room, world } = await subscriber();
  const seen: unknown[] = [];
  room.presence.on("join", ({ user }) => (seen.push(user), void room.unsubscribe()));
  room.presence.on("change", () => seen.push("change"));
  await world.socket.say(state(["ana", "bo", "cy"]));
  expect([seen, room.presence.users.size, room.presence.count, room.presence.isListed]).toEqual([["ana"], 0, 0, false]);
});

test("a huge retry_after delays the subscriptions for a minute at most", async () => {
  const world = new World();
  const client = await world.connected({}, { heartbeat: { interval: 1e9, timeout: 1e9 } });
  const one = fate(client.channel("one").subscribe());
  await settle();
  await world.socket.refuse("subscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 1e12 } });
  const two = fate(client.channel("two").subscribe());
  await settle();
  expect(world.socket.all("subscribe_channel").length).toBe(1);
  await world.pass(60_000);
  const answered = new Set([world.socket.all("subscribe_channel")[0]?.["id"]]);
  await ackAll(world.socket, "subscribe_channel", answered);
  expect([one.now, two.now]).toEqual([expect.anything(), expect.anything()]);
  expect(world.socket.all("subscribe_channel").map(({ channel }) => channel).sort()).toEqual(["one", "one", "two"]);
});

for (const [when, before] of [["at once", undefined], ["later", 100]] as const) {
  test(`a request with which getToken fetches the token ${when} does not wait for the restore`, async () => {
    const world = new World();
    const client = await world.connected();
    const room = client.channel("room");
    const getToken = async () => {
      if (before) await new Promise<void>((resolve) => world.after(before, resolve));
      return ((await client.request("token")) as { token: string }).token;
    };
    void room.subscribe({ getToken });
    await world.pass(200);
    await world.socket.ack("token", { token: "t1" });
    await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
    await world.socket.drop();
    // The requests that waited before stay behind the subscriptions.
    void client.request("earlier").catch(() => {});
    await world.attempt();
    await world.socket.accept();
    await world.pass(200);
    expect(world.socket.heard.map(({ type }) => type)).toEqual(["token"]);
    await world.socket.ack("token", { token: "t2" });
    expect(world.socket.last("subscribe_channel")["token"]).toBe("t2");
    await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
    expect(world.socket.heard.map(({ type }) => type)).toEqual(["token", "subscribe_channel", "earlier"]);
  });
}

test("whether a publication may be sent again is decided for each session, even if its subscription is late", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "a" } });
  const room = client.channel("room");
  let token: ((token: string) => void) | undefined;
  let isSlow = false;
  void room.subscribe({ getToken: () => (isSlow ? new Promise<string>((resolve) => (token = resolve)) : "t") });
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  // A resumed session remembers the keys.
  await world.lose({ resumed: true, resume: { token: "b" }, subscriptions: [{ channel: "room", recoverable: false }] });
  const published = fate(room.publish("once"));
  await settle();
  isSlow = true;
  // The server has forgotten everything, and the token is slow.
  await world.lose({ resumed: false, resume: { token: "c" } });
  await world.pass(11_000);
  token?.("t");
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  expect([world.socket.all("channel_message").map((one: ServerMessage) => one["content"]), published.now]).toEqual([[], "outcome_unknown"]);
});

test("a channel without history on an unstable connection has one gap in a list between two messages", async () => {
  const { client, room, world } = await subscriber({ recoverable: false });
  const list = createMessageList<any>(client, room, { max: 3 });
  list.subscribe(() => {});
  const live = (content: string) => world.socket.say({ type: "message", channel: "room", content, timestamp: 1 });
  await live("a");
  for (let n = 0; n < 20; n++) {
    await world.lose();
    await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
    if (n === 0) await live("b");
  }
  const shown = () => list.get().messages.map((one) => (one.kind === "gap" ? one.gap.reason : one.content));
  expect(shown()).toEqual(["not_recoverable", "b", "not_recoverable"]);
  await live("c");
  expect(shown()).toEqual(["b", "not_recoverable", "c"]);
});

test("a publication that is refused when sent again may have been published the first time", async () => {
  const { room, world } = await subscriber({ recoverable: false }, { resume: { token: "t" } });
  const published = fate(room.publish("once"));
  const asked = fate(room.history());
  await settle();
  await world.lose({ resumed: true, subscriptions: [{ channel: "room", recoverable: false }] });
  expect(world.socket.all("channel_message").length).toBe(1);
  await world.socket.refuse("channel_message", "rate_limited", { temporary: true });
  await world.socket.refuse("history", "permission_denied");
  expect([published.now, asked.now]).toEqual(["outcome_unknown", "refused"]);
});

test("no message of a page is delivered after abort from older()", async () => {
  const { room, world } = await subscriber();
  const controller = new AbortController();
  const loop = room.older({ signal: controller.signal });
  const first = loop.next();
  await settle();
  await world.socket.ack("history", { epoch: "E", offset: 10, oldest: 1, messages: [message(10), message(9)] });
  expect((await first).value).toMatchObject({ offset: 10 });
  controller.abort("enough");
  await expect(loop.next()).rejects.toBe("enough");
});

test("an answer to presence.update of an earlier subscription does not change the metadata of the next one", async () => {
  const { room, world } = await subscriber();
  const updated = fate(room.presence.update({ old: 1 }));
  void room.unsubscribe();
  void room.subscribe({ metadata: { device: "tablet" } }).catch(() => {});
  await settle();
  await world.socket.ack("update_presence");
  await world.socket.ack("unsubscribe_channel");
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.lose();
  expect([updated.now, world.socket.last("subscribe_channel")["metadata"]]).toEqual(["done", { device: "tablet" }]);
});

test("a volatile request is sent if it does not have to wait", async () => {
  const world = new World();
  const client = await world.connected();
  const asked = fate(client.request("now", {}, { ttl: 0 }));
  await settle();
  expect([world.socket.all("now").length, asked.now]).toEqual([1, "pending"]);
});

test("a request with which getToken fetches the token is repeated if it does not fit into the outbox", async () => {
  const world = new World();
  const client = await world.connected({ outbox: { count: 1 } });
  const room = client.channel("room");
  const blocked = fate(client.request("slow"));
  void room.subscribe({ getToken: async () => ((await client.request("token")) as { token: string }).token }).catch(() => {});
  await settle();
  expect(world.socket.all("token").length).toBe(0);
  await world.socket.ack("slow");
  await world.pass(2000);
  expect([blocked.now, world.socket.all("token").length]).toEqual(["done", 1]);
});

test("the last state that a listener receives is the current one", async () => {
  const { client, room, world } = await subscriber();
  await world.socket.drop();
  const heard: string[] = [];
  const off = room.onState(({ name }) => name === "subscribed" && (off(), void room.unsubscribe()));
  room.onState(({ name }) => heard.push(name));
  await world.attempt();
  await world.socket.accept();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true, recovered: true });
  expect(heard).toEqual(["unsubscribed"]);
  const states: string[] = [];
  const end = client.onState(({ name }) => name === "connected" && (end(), client.close()));
  client.onState(({ name }) => states.push(name));
  client.reconnect();
  await settle();
  await world.socket.accept();
  expect([client.state.name, states.at(-1)]).toEqual(["closed", "closed"]);
});

test("a request with which getToken fetches the token is sent again at once on the next connection", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const room = client.channel("room");
  let pending: Promise<unknown> | undefined;
  // Concurrent callers share one request.
  const getToken = () => (pending ??= client.request("token", {}, { repeatable: true })).then((data) => (data as { token: string }).token);
  void room.subscribe({ getToken });
  await settle();
  await world.lose();
  expect(world.socket.all("token").length).toBe(1);
  await world.socket.ack("token", { token: "t1" });
  expect(world.socket.last("subscribe_channel")["token"]).toBe("t1");
});

test("presence changes in an unreadable message are not reported for another subscription", async () => {
  const { room, world } = await subscriber();
  const seen: unknown[] = [];
  room.presence.on("join", ({ user }) => seen.push(user));
  await world.socket.say(state(["ana"]));
  await world.socket.say({ type: "presence_diff", channel: "room", count: 3, joins: { bo: entry(), cy: null }, leaves: [], updates: {}, offset: 2 });
  expect(seen).toEqual(["ana"]);
  await room.unsubscribe();
  void room.subscribe();
  await world.attempt();
  await world.socket.accept();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.socket.say(state(["di"]));
  expect(seen).toEqual(["ana", "di"]);
});

test("gaps in a hundred channels are filled a few at a time, and none is lost to a rate limit", async () => {
  const world = new World();
  const client = await world.connected();
  const names = Array.from({ length: 100 }, (_, at) => `room-${at}`);
  const gaps: string[] = [];
  const heard = new Map<string, number[]>();
  client.onGap(({ reason }) => gaps.push(reason));
  for (const name of names) {
    client.channel(name).on("message", ({ offset }) => heard.set(name, [...(heard.get(name) ?? []), offset as number]));
    void client.channel(name).subscribe();
  }
  await settle();
  const answered = new Set<unknown>();
  const open = (type: string) => world.socket.all(type).filter(({ id }) => !answered.has(id));
  const answer = async (type: string, say: (asked: ServerMessage, at: number) => object) => {
    const all = open(type);
    for (const { id } of all) answered.add(id);
    await world.socket.say(...all.map((asked, at) => ({ id: asked["id"], ...say(asked, at) })));
    return all.length;
  };
  const page = (channel: unknown) => ({ channel, epoch: "E", offset: 11, oldest: 1, messages: [{ ...message(11), channel }] });
  while (await answer("subscribe_channel", ({ channel }) => ({ type: "ack", data: { channel, ...start, recoverable: true } })));
  await world.socket.say(...names.map((channel) => ({ type: "gap", channel, ...start, missed: 1 })));
  expect(open("history").length).toBe(16);
  const refused = { type: "error", error_type: "rate_limited", message: "", timestamp: 1, temporary: true, details: { retry_after: 100 } };
  for (let round = 0; round < 100; round++) {
    expect(open("history").length).toBeLessThanOrEqual(16);
    await answer("history", ({ channel }, at) => (round < 3 && at % 2 ? refused : { type: "ack", data: page(channel) }));
    await world.pass(100);
  }
  await world.socket.say(...names.map((channel) => ({ ...message(12), channel })));
  expect([gaps, names.filter((name) => `${heard.get(name)}` !== "11,12")]).toEqual([[], []]);
});

test("presence lists are requested a few at a time, and again after the delay that the server has named", async () => {
  const world = new World();
  const client = await world.connected();
  const names = Array.from({ length: 40 }, (_, at) => `room-${at}`);
  const answered = new Set<unknown>();
  for (const name of names) void client.channel(name).subscribe();
  await settle();
  while (await ackAll(world.socket, "subscribe_channel", answered));
  await world.socket.say(...names.flatMap((channel) => [{ ...state(["ana"]), channel }, { type: "gap", channel, missed: 0 }]));
  expect(world.socket.all("presence").length).toBe(16);
  const first = world.socket.all("presence")[0] as ServerMessage;
  answered.add(first["id"]);
  await world.socket.say({ type: "error", id: first["id"], error_type: "rate_limited", message: "", timestamp: 1, temporary: true, details: { retry_after: 100 } });
  for (let round = 0; round < 10; round++) {
    await world.pass(100);
    const open = world.socket.all("presence").filter(({ id }) => !answered.has(id));
    for (const { id } of open) answered.add(id);
    await world.socket.say(...open.map(({ id, channel }) => ({ type: "ack", id, data: { ...state(["ana", "bo"], 5), channel } })));
  }
  expect(names.filter((name) => client.channel(name).presence.count !== 2)).toEqual([]);
});

test("a getToken that never resolves lets requests overtake the subscriptions only while its channel is wanted", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room").subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await room;
  const never = client.channel("slow");
  void never.subscribe({ getToken: () => new Promise<string>(() => {}) });
  await settle();
  void never.unsubscribe();
  await settle();
  await world.lose();
  void client.request("ask" as never).catch(() => {});
  await settle();
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel"]);
});

test("a gap is filled even if the server is slow with the subscriptions of sixteen other channels", async () => {
  const { client, world, heard } = await subscriber();
  for (let n = 0; n < 20; n++) void client.channel(`slow-${n}`).subscribe().catch(() => {});
  await settle();
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 1 }, message(12));
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 12, oldest: 1, messages: [message(11), message(12)] });
  expect(heard).toEqual([11, 12]);
});

test("presence metadata is sent again by the subscription on which it was sent", async () => {
  const { client, room, world } = await subscriber();
  await world.socket.drop();
  void room.presence.update({ n: 1 });
  void room.unsubscribe();
  void room.subscribe({ metadata: { n: 0 } });
  await world.attempt();
  await world.socket.accept();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.socket.ack("update_presence");
  await world.lose();
  expect([client.state.name, world.socket.last("subscribe_channel")["metadata"]]).toEqual(["connected", { n: 1 }]);
});

test("if the server ended its own subscription, the one requested meanwhile is not left behind", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  room.subscribe().catch(() => {});
  await settle();
  await world.socket.say({ type: "subscribed", channel: "room", recoverable: false }, { type: "unsubscribed", channel: "room" });
  expect(room.state.name).toBe("unsubscribed");
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  expect([room.state.name, world.socket.all("unsubscribe_channel").length]).toEqual(["unsubscribed", 1]);
});

test.each([true, false])("a subscription whose unsubscribe was temporarily refused restarts if it is wanted again", async (isAtOnce) => {
  const { client, room, world } = await subscriber();
  void room.unsubscribe();
  if (isAtOnce) void room.subscribe();
  await settle();
  await world.socket.refuse("unsubscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 100 } });
  if (!isAtOnce) void room.subscribe();
  await world.pass(100);
  await world.socket.refuse("subscribe_channel", "already_subscribed");
  await settle();
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
  await world.socket.ack("unsubscribe_channel");
  await world.pass(1000);
  expect(world.socket.all("subscribe_channel")).toHaveLength(3);
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect([client.state.name, room.state.name, room.position]).toEqual(["connected", "subscribed", start]);
});

test("a subscription that the server created first stays if no unsubscribe was refused", async () => {
  const { room, world } = await subscriber();
  void room.unsubscribe();
  await world.socket.ack("unsubscribe_channel");
  void room.subscribe();
  await settle();
  await world.socket.refuse("subscribe_channel", "already_subscribed");
  await world.pass(2000);
  expect([room.state.name, world.socket.all("unsubscribe_channel").length]).toEqual(["subscribed", 1]);
});

test("a subscription whose unsubscribe was temporarily refused ends even if the application unsubscribes twice", async () => {
  const { room, world } = await subscriber();
  void room.unsubscribe();
  await settle();
  await world.socket.refuse("unsubscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 100 } });
  void room.unsubscribe();
  await world.pass(5000);
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
});
