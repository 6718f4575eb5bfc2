// Several components that use one channel, and channels that are no longer used.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi } from "vitest";
import { start, subscriber, message } from "./subscriber.js";
import { World, fate, settle } from "./world.js";

test("a subscription ends with its last share", async () => {
  const { room, world } = await subscriber();
  const first = await room.subscribe();
  const controller = new AbortController();
  await room.subscribe({ signal: controller.signal });
  expect(world.socket.all("subscribe_channel")).toHaveLength(1);
  await first.unsubscribe();
  await first.unsubscribe();
  controller.abort();
  await settle();
  // The share of `subscriber` remains.
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(0);
  expect(room.state.name).toBe("subscribed");
});

test("the end of the last share, by handle or signal, sends the unsubscribe request", async () => {
  for (const way of ["handle", "signal"] as const) {
    const world = new World();
    const client = await world.connected();
    const room = client.channel("room");
    const controller = new AbortController();
    const subscribed = room.subscribe({ signal: controller.signal });
    await settle();
    await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
    const share = await subscribed;
    if (way === "handle") void share.unsubscribe();
    else controller.abort();
    await settle();
    expect(world.socket.all("unsubscribe_channel")).toHaveLength(1);
    expect(room.state).toEqual({ name: "unsubscribed" });
  }
});

test("a share that ends before the answer fails, and the others succeed", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const controller = new AbortController();
  const mine = fate(room.subscribe({ signal: controller.signal }));
  const other = fate(room.subscribe());
  controller.abort("gone");
  await settle();
  expect(mine.now).toBe("gone");
  expect(other.now).toBe("pending");
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect(other.now).toMatchObject({ position: start, recoverable: true });
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(0);
});

test("unsubscribing before the answer rejects with an error kind of its own", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const subscribed = room.subscribe();
  void room.unsubscribe();
  await expect(subscribed).rejects.toMatchObject({ kind: "unsubscribed" });
  await expect(room.subscribe({ signal: AbortSignal.abort("never") })).rejects.toBe("never");
});

test("a hundred channels subscribe a few at a time, and a rate limit delays all of them", async () => {
  const world = new World();
  const client = await world.connected();
  const names = Array.from({ length: 100 }, (_, at) => `room-${at}`);
  const all = names.map((name) => fate(client.channel(name).subscribe()));
  await settle();
  const asked = world.socket.all("subscribe_channel");
  expect(asked).toHaveLength(16);
  const answer = (request: object) => ({ type: "ack", id: (request as { id: number }).id, data: { channel: (request as { channel: string }).channel, recoverable: false } });
  await world.socket.say(answer(asked[0]!));
  expect(world.socket.all("subscribe_channel")).toHaveLength(17);
  const limited = { type: "error", id: asked[1]!["id"], error_type: "rate_limited", message: "", timestamp: 1, temporary: true, details: { retry_after: 500 } };
  await world.socket.say(limited, ...asked.slice(2).map(answer));
  expect(world.socket.all("subscribe_channel")).toHaveLength(17);
  await world.pass(499);
  expect(world.socket.all("subscribe_channel")).toHaveLength(17);
  await world.pass(1);
  for (let done = 0; done < 200 && all.some(({ now }) => now === "pending"); done++) {
    const open = world.socket.all("subscribe_channel").slice(17 + done);
    if (open[0]) await world.socket.say(answer(open[0]));
    else await world.socket.say(...world.socket.all("subscribe_channel").map(answer));
  }
  expect(all.every(({ now }) => (now as { recoverable?: boolean }).recoverable === false)).toBe(true);
});

test("subscriptions queued at a connection loss are requested once on the next connection", async () => {
  const world = new World();
  const client = await world.connected();
  for (let at = 0; at < 40; at++) void client.channel(`room-${at}`).subscribe();
  await settle();
  await world.lose();
  const asked = new Set<unknown>();
  for (let round = 0; round < 5; round++) {
    const requests = world.socket.all("subscribe_channel");
    for (const { channel } of requests) asked.add(channel);
    await world.socket.say(...requests.map(({ id, channel }) => ({ type: "ack", id, data: { channel, recoverable: false } })));
  }
  expect(asked.size).toBe(40);
  expect(world.socket.all("subscribe_channel")).toHaveLength(40);
});

test("client events are sent at the channel's rate, and the latest of each type is kept", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  room.send("cursor", { x: 0 });
  void room.subscribe();
  await settle();
  room.send("cursor", { x: 1 });
  expect(world.socket.all("client_event")).toEqual([]);
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false, client_events: { cursor: 20, typing: 5 } });
  for (let x = 2; x < 300; x++) room.send("cursor", { x });
  room.send("typing");
  const sent = () => world.socket.all("client_event").map(({ event, data, id }) => [event, data, id]);
  expect(sent()).toEqual([["cursor", { x: 2 }, undefined], ["typing", undefined, undefined]]);
  await world.pass(49);
  expect(sent()).toHaveLength(2);
  await world.pass(1);
  expect(sent().at(-1)).toEqual(["cursor", { x: 299 }, undefined]);
  await world.pass(1000);
  expect(sent()).toHaveLength(3);
  room.send("cursor", 1n);
  room.send("cursor", { x: 300 });
  await world.pass(1000);
  expect(sent()).toHaveLength(4);
});

test("client events of others are delivered, even during a history request, and have no offset", async () => {
  const { room, world, heard, gaps } = await subscriber();
  const events: unknown[] = [];
  const off = room.onEvent("cursor", (event) => events.push(event));
  await world.socket.say({ type: "client_event", channel: "room", event: "cursor", user: "bo", data: { x: 1 } });
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 1 });
  await world.socket.say({ type: "client_event", channel: "room", event: "cursor", user: "bo", data: { x: 2 } });
  await world.socket.say({ type: "client_event", channel: "room", event: "message", user: "bo", data: { x: 2 } });
  off();
  await world.socket.say({ type: "client_event", channel: "room", event: "cursor", user: "bo", data: { x: 3 } });
  expect(events).toMatchObject([{ type: "cursor", channel: "room", user: "bo", data: { x: 1 } }, { data: { x: 2 } }]);
  expect([heard, gaps]).toEqual([[], []]);
  expect(room.position).toEqual(start);
});

test("a publication without an echo advances the position when acknowledged, if no message lies before it", async () => {
  const { room, world } = await subscriber();
  const { epoch, offset } = start;
  for (const [acked, after] of [[offset + 1, offset + 1], [offset + 3, offset + 1]] as const) {
    const published = fate(room.publish("hello", { echo: false }));
    await settle();
    expect(world.socket.last("channel_message")["echo"]).toBe(false);
    await world.socket.ack("channel_message", { epoch, offset: acked });
    expect(published.now).toEqual({ epoch, offset: acked });
    expect(room.position).toEqual({ epoch, offset: after });
  }
  void room.publish("hello");
  await settle();
  expect(world.socket.last("channel_message")).not.toHaveProperty("echo");
});

test("updated presence metadata is sent again with the next subscription", async () => {
  const { room, world } = await subscriber();
  const updated = fate(room.presence.update({ mood: "busy" }));
  await settle();
  expect(world.socket.last("update_presence")).toMatchObject({ channel: "room", metadata: { mood: "busy" } });
  await world.socket.ack("update_presence");
  expect(updated.now).toBe("done");
  await world.lose();
  expect(world.socket.last("subscribe_channel")["metadata"]).toEqual({ mood: "busy" });
});

test("the iterator returns messages one after the other, until the subscription ends", async () => {
  const { room, world } = await subscriber();
  const contents: unknown[] = [];
  const loop = (async () => {
    for await (const { offset } of room.messages()) contents.push(offset);
  })();
  await world.socket.say(message(11), message(12));
  void room.unsubscribe();
  await loop;
  expect(contents).toEqual([11, 12]);
});

test("a loop over messages ends with its signal, its break and its overflow", async () => {
  const { room, world } = await subscriber();
  await expect(room.messages({ signal: AbortSignal.abort("enough") }).next()).rejects.toBe("enough");
  const controller = new AbortController();
  const next = room.messages({ signal: controller.signal }).next();
  controller.abort("later");
  await expect(next).rejects.toBe("later");
  const slow = room.messages();
  await world.socket.say(...Array.from({ length: 10_001 }, (_, at) => message(11 + at)));
  let read = 0;
  await expect((async () => {
    for await (const _ of slow) read++;
  })()).rejects.toMatchObject({ kind: "overflow" });
  expect(read).toBe(10_001);
});

test("the iterator over the history returns messages from the newest to the oldest, page by page", async () => {
  const { room, world } = await subscriber();
  const offsets: unknown[] = [];
  const loop = (async () => {
    for await (const { offset } of room.older({ limit: 2 })) offsets.push(offset);
  })();
  await settle();
  expect(world.socket.last("history")).toMatchObject({ reverse: true, limit: 2 });
  await world.socket.ack("history", { channel: "room", ...start, oldest: 8, messages: [message(10), message(9)] });
  expect(world.socket.last("history")).toMatchObject({ before: { epoch: start.epoch, offset: 9 }, limit: 2 });
  await world.socket.ack("history", { channel: "room", ...start, oldest: 8, messages: [message(8)] });
  await loop;
  expect(offsets).toEqual([10, 9, 8]);
});

test("channels without subscription and listeners are not kept in memory", async () => {
  const world = new World();
  const client = await world.connected();
  const made: WeakRef<object>[] = [];
  for (let at = 0; at < 50; at++) made.push(new WeakRef(client.channel(`idle-${at}`)));
  const listened = vi.fn();
  client.channel("listened").on("message", listened);
  expect(client.channel("listened")).toBe(client.channel("listened"));
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  await new Promise((resolve) => setImmediate(resolve));
  gc();
  await new Promise((resolve) => setImmediate(resolve));
  expect(made.filter((one) => one.deref()).length).toBeLessThan(5);
  const room = client.channel("listened");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "listened", recoverable: false });
  await world.socket.say({ type: "message", channel: "listened", content: 1, timestamp: 1 });
  expect(listened).toHaveBeenCalledTimes(1);
});

test.each(["without", "with"])("a request right after subscribe, %s a token, waits until the subscription is answered", async (which) => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  let give = (_: string) => {};
  const getToken = () => new Promise<string>((resolve) => (give = resolve));
  void room.subscribe(which === "with" ? { getToken } : {});
  const published = fate(room.publish("first"));
  const page = fate(room.history());
  await world.pass(100);
  give("token");
  await settle();
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel"]);
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel", "channel_message", "history"]);
  await world.socket.ack("channel_message", { epoch: "E", offset: 11 });
  await world.socket.ack("history", { channel: "room", ...start, oldest: 1, messages: [] });
  expect(published.now).toEqual({ epoch: "E", offset: 11 });
  expect(page.now).toMatchObject({ oldest: 1 });
  void client.channel("refused").subscribe().catch(() => {});
  const refused = fate(client.channel("refused").publish("x"));
  await settle();
  await world.socket.refuse("subscribe_channel", "permission_denied");
  await world.socket.refuse("channel_message", "not_subscribed");
  expect(refused.now).toBe("refused");
});
