// Subscriptions: how they start, which are refused, and what ends them.

import { expect, test, vi } from "vitest";
import type { Gap } from "../src/index.js";
import { start, subscriber, message } from "./subscriber.js";
import { World, fate, settle } from "./world.js";

test("a refused subscription fails, and is not requested again", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const subscription = fate(room.subscribe());
  await settle();
  await world.socket.refuse("subscribe_channel", "permission_denied");
  expect(subscription.now).toBe("refused");
  expect(room.state).toMatchObject({ name: "unsubscribed", error: { type: "permission_denied" } });
  await world.lose();
  expect(world.socket.heard).toEqual([]);
});

test("a subscription that is refused after a reconnect ends, and reports the error", async () => {
  const { room, world } = await subscriber();
  await world.lose();
  await world.socket.refuse("subscribe_channel", "permission_denied");
  expect(room.state).toMatchObject({ name: "unsubscribed", error: { type: "permission_denied" } });
});

test("a temporarily refused subscription is requested again after the delay", async () => {
  const { room, world, gaps } = await subscriber();
  await world.lose();
  await world.socket.refuse("subscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 700 } });
  await world.pass(699);
  expect(world.socket.all("subscribe_channel")).toHaveLength(1);
  await world.pass(1);
  expect(world.socket.all("subscribe_channel")).toHaveLength(2);
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true, recovered: true });
  expect(room.state.name).toBe("subscribed");
  expect(gaps).toEqual([]);
});

test("a channel's token is requested before each subscription", async () => {
  const world = new World();
  const client = await world.connected();
  let number = 0;
  void client.channel("room").subscribe({ getToken: async () => `t${++number}` });
  await settle();
  expect(world.socket.last("subscribe_channel")["token"]).toBe("t1");
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.lose();
  expect(world.socket.last("subscribe_channel")["token"]).toBe("t2");
});

test("unsubscribing stops the messages, and the channel is not subscribed again", async () => {
  const { room, world, heard } = await subscriber();
  const done = fate(room.unsubscribe());
  await world.socket.say(message(11));
  await world.socket.ack("unsubscribe_channel");
  expect(done.now).toBe("done");
  expect(heard).toEqual([]);
  expect(room.state).toEqual({ name: "unsubscribed" });
  await world.lose();
  expect(world.socket.heard).toEqual([]);
});

test("a subscription that the server creates needs no request", async () => {
  const world = new World();
  const client = await world.connected({}, { subscriptions: [{ channel: "room", ...start, recoverable: true }] });
  const heard: unknown[] = [];
  client.channel("room").on("message", ({ offset }) => heard.push(offset));
  client.channel("other").on("message", ({ offset }) => heard.push(offset));
  await world.socket.say({ type: "subscribed", channel: "other", epoch: "G", offset: 4, recoverable: true });
  expect(client.channel("other")).toMatchObject({ state: { name: "subscribed" }, position: { epoch: "G", offset: 4 } });
  await expect(client.channel("other").subscribe()).resolves.toMatchObject({ recoverable: true });
  await world.socket.say(message(11), { ...message(5), channel: "other" });
  expect(heard).toEqual([11, 5]);
  expect(world.socket.heard).toEqual([]);
  await world.socket.say({ type: "unsubscribed", channel: "other" });
  expect(client.channel("other").state).toMatchObject({ name: "unsubscribed", error: { kind: "refused" } });
});

test("a listener that fails does not affect the others", async () => {
  const { room, world, heard } = await subscriber();
  room.on("message", () => {
    throw new Error("of the application");
  });
  const late: unknown[] = [];
  const off = room.on("message", ({ offset }) => late.push(offset));
  await world.socket.say(message(11));
  off();
  await world.socket.say(message(12));
  expect(heard).toEqual([11, 12]);
  expect(late).toEqual([11]);
});

test("messages right after the answer to a subscribe request are delivered after it", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const heard: unknown[] = [];
  room.on("message", ({ offset }) => heard.push([offset, room.state.name, room.position?.offset]));
  void room.subscribe();
  await settle();
  const { id } = world.socket.last("subscribe_channel");
  await world.socket.say({ type: "ack", id, data: { channel: "room", ...start, recoverable: true } }, message(11));
  expect(heard).toEqual([[11, "subscribed", 11]]);
  await world.lose();
  const again = world.socket.last("subscribe_channel");
  expect(again).toMatchObject({ recover: { epoch: "E", offset: 11 } });
  const data = { channel: "room", epoch: "E", offset: 13, recoverable: true, recovered: true };
  await world.socket.say({ type: "ack", id: again["id"], data }, message(12), message(13));
  expect(room.state.recovered).toEqual({ from: { epoch: "E", offset: 11 }, to: { epoch: "E", offset: 13 } });
  expect(heard.slice(1)).toEqual([[12, "subscribed", 12], [13, "subscribed", 13]]);
});

test("late messages of an ended subscription do not move the position of the next one", async () => {
  const { room, world, heard } = await subscriber();
  void room.unsubscribe();
  void room.subscribe({ since: start });
  await settle();
  await world.socket.say(message(15), { type: "gap", channel: "room", epoch: "E", offset: 15, missed: 1 });
  await world.socket.ack("unsubscribe_channel");
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 15, recoverable: true, recovered: true });
  for (let offset = 11; offset <= 15; offset++) await world.socket.say(message(offset));
  expect(heard).toEqual([11, 12, 13, 14, 15]);
});

test("a subscribe request has no timeout, and is not sent twice", async () => {
  const world = new World();
  const client = await world.connected({}, { heartbeat: { interval: 1e9, timeout: 1e9 } });
  const subscription = fate(client.channel("room").subscribe());
  await world.pass(60_000);
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect(subscription.now).toMatchObject({ position: start });
  expect(world.socket.all("subscribe_channel")).toHaveLength(1);
});

test("metadata of a subscription is sent with the next one, too, even if the server was faster", async () => {
  const world = new World();
  const client = await world.connected();
  await world.socket.say({ type: "subscribed", channel: "room", ...start, recoverable: true });
  await client.channel("room").subscribe({ metadata: { device: "phone" } });
  await client.channel("room").subscribe();
  await world.lose();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ metadata: { device: "phone" } });
});

test("metadata of an ended subscription is not sent with the next one", async () => {
  const { room, world } = await subscriber();
  await room.subscribe({ metadata: { device: "phone" }, since: { epoch: "E", offset: 3 } });
  void room.unsubscribe();
  void room.subscribe();
  await settle();
  expect(world.socket.last("subscribe_channel")).toEqual({ type: "subscribe_channel", id: 3, channel: "room" });
});

test("a channel's token is requested only if there is a connection for it", async () => {
  const world = new World();
  const client = world.client();
  const getToken = vi.fn(() => Promise.reject(new Error("no network")));
  const room = client.channel("room");
  const early = fate(room.subscribe({ getToken }));
  await world.pass(10_000);
  expect(getToken).not.toHaveBeenCalled();
  expect(room.state.name).toBe("subscribing");
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(getToken).toHaveBeenCalledTimes(1);
  await world.pass(1000);
  expect(getToken).toHaveBeenCalledTimes(2);
  await world.socket.drop();
  client.close();
  expect(world.timers).toBe(0);
  await settle();
  expect(early.now).toBe("closed");
  await expect(room.subscribe()).rejects.toMatchObject({ kind: "closed" });
});

test("an application message is distinguished from the protocol's by its whole type", async () => {
  const { room, world, gaps, states } = await subscriber();
  const heard: unknown[] = [];
  room.on("presence_hint", ({ offset }) => heard.push(offset));
  room.presence.on("join", () => heard.push("join"));
  const told = states.length;
  const own = ["presence_hint", " gap", " state", "gap ", "presence join", "state"];
  await world.socket.say(...own.map((type, n) => ({ type, channel: "room", timestamp: 1, offset: 11 + n })));
  expect(heard).toEqual([11]);
  expect(gaps).toEqual([]);
  expect(states).toHaveLength(told);
  expect(room.position?.offset).toBe(16);
});

test("the server may subscribe this client again after it has confirmed the unsubscribe", async () => {
  const { room, world, heard } = await subscriber();
  void room.unsubscribe();
  await settle();
  const subscribed = { type: "subscribed", channel: "room", epoch: "E", offset: 20, recoverable: true };
  await world.socket.say(subscribed);
  expect(world.socket.all("unsubscribe_channel"), "the server has not confirmed the unsubscribe yet").toHaveLength(2);
  for (const { id } of world.socket.all("unsubscribe_channel")) await world.socket.say({ type: "ack", id });
  await world.socket.say(subscribed, message(21));
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
  expect(heard).toEqual([21]);
});

test("a channel's token that never arrives is requested again", async () => {
  const world = new World();
  const client = await world.connected({}, { heartbeat: { interval: 1e9, timeout: 1e9 } });
  let calls = 0;
  const getToken = () => (++calls === 1 ? new Promise<string>(() => {}) : "t");
  client.channel("room").subscribe({ getToken }).catch(() => {});
  await world.pass(61_000);
  expect(world.socket.last("subscribe_channel")).toMatchObject({ token: "t" });
  client.close();
  await settle();
  expect(world.timers).toBe(0);
});

test("fields of a subscription that are null count as missing", async () => {
  const { room, world, gaps } = await subscriber({ recoverable: false });
  const entry = { channel: "room", epoch: null, offset: null, recoverable: false, recovered: null, reason: null };
  await world.lose();
  await world.socket.ack("subscribe_channel", entry);
  await world.socket.say({ type: "gap", channel: "room", epoch: null, offset: null, missed: 0 });
  expect(room.position).toBeUndefined();
  expect(world.socket.all("history")).toEqual([]);
  expect(gaps).toMatchObject([{ reason: "not_recoverable" }]);
});

test("a subscription starts at the given position, and a failed recovery from it is reported", async () => {
  for (const [answer, count] of [[{ recovered: true }, 0], [{ recovered: false, reason: "too_old" }, 1]] as const) {
    const world = new World();
    const client = await world.connected();
    const gaps: Gap[] = [];
    client.onGap((gap) => gaps.push(gap));
    void client.channel("room").subscribe({ since: { epoch: "E", offset: 3 } });
    await settle();
    expect(world.socket.last("subscribe_channel")).toMatchObject({ recover: { epoch: "E", offset: 3 } });
    await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true, ...answer });
    expect(gaps).toHaveLength(count);
    expect(client.channel("room").position?.offset).toBe(count === 0 ? 3 : 10);
  }
});

test("the confirmation of an earlier subscription does not count as the answer to the current one", async () => {
  const { room, world, heard, gaps } = await subscriber();
  void room.unsubscribe();
  const subscribed = room.subscribe();
  await settle();
  // The server has sent this before it has read either request.
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 4, recoverable: true, recovered: false, reason: "epoch_changed" });
  expect(room.state.name).toBe("subscribing");
  await world.socket.ack("unsubscribe_channel");
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "F", offset: 6, recoverable: true });
  expect((await subscribed).position).toEqual({ epoch: "F", offset: 6 });
  await world.socket.say(message(7));
  expect(heard).toEqual([7]);
  expect(gaps).toEqual([]);
});

test("a subscription by the server that is about to end does not count as the wanted one", async () => {
  const world = new World();
  const room = (await world.connected()).channel("room");
  let give = (_: string) => {};
  const getToken = () => new Promise<string>((resolve) => (give = resolve));
  void room.subscribe().catch(() => {});
  await settle();
  void room.unsubscribe();
  const subscribed = room.subscribe({ getToken });
  await settle();
  // The server has sent this before it has read that the subscription ends.
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "E", offset: 4, recoverable: true });
  expect(room.state.name).toBe("subscribing");
  await world.socket.refuse("subscribe_channel", "already_subscribed");
  await world.socket.ack("unsubscribe_channel");
  give("token");
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 6, recoverable: true });
  expect((await subscribed).position).toEqual({ epoch: "E", offset: 6 });
});

test("channels unsubscribed before their turn send no requests", async () => {
  const world = new World();
  const client = await world.connected();
  const rooms = Array.from({ length: 100 }, (_, n) => client.channel(`room:${n}`));
  for (const room of rooms) void room.subscribe().catch(() => {});
  await settle();
  for (const room of rooms) void room.unsubscribe();
  for (let n = 0; n < world.socket.heard.length; n++) {
    const request = world.socket.heard[n];
    await world.socket.say({ type: "ack", id: request?.["id"], data: { channel: request?.["channel"], recoverable: false } });
  }
  expect(world.socket.all("subscribe_channel")).toHaveLength(16);
  expect(world.socket.all("unsubscribe_channel").map(({ channel }) => channel)).toEqual(rooms.slice(0, 16).map(({ name }) => name));
});

test("a channel that is unsubscribed twice does not count as subscribed until the answer", async () => {
  const { room, world } = await subscriber();
  void room.unsubscribe();
  const again = fate(room.subscribe({ getToken: () => new Promise<string>(() => {}) }));
  await settle();
  void room.unsubscribe();
  await settle();
  expect(again.now).toBe("unsubscribed");
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 5, recoverable: true, recovered: true });
  await world.socket.ack("unsubscribe_channel");
  await settle();
  expect(room.state.name).toBe("unsubscribed");
});

test("a channel that is unsubscribed twice ends even if its first unsubscribe was temporarily refused", async () => {
  const { room, world } = await subscriber();
  void room.unsubscribe().catch(() => {});
  void room.subscribe({ getToken: () => new Promise<string>(() => {}) }).catch(() => {});
  await settle();
  void room.unsubscribe();
  await settle();
  await world.socket.refuse("unsubscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 700 } });
  await world.pass(700);
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
});

test("a subscription that was too large for the connection is refused, and does not end the next connection", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const kept = client.channel("kept");
  const refused = client.channel("refused");
  void kept.subscribe();
  const subscription = fate(refused.subscribe({ metadata: { text: "x".repeat(4000) } }));
  await settle();
  await world.socket.drop(1009);
  expect([subscription.now, kept.state.name, refused.state]).toMatchObject(["refused", "subscribing", { name: "unsubscribed", error: { type: "payload_too_large" } }]);
  await (await world.attempt()).accept({ resumed: true, resume: { token: "u" } });
  expect(world.socket.all("subscribe_channel").map(({ channel }) => channel)).toEqual(["kept"]);
});

test("a channel that is unsubscribed twice ends even if the first is temporarily refused while the second waits", async () => {
  const { client, room, world } = await subscriber();
  void room.unsubscribe().catch(() => {});
  for (let n = 1; n < 16; n++) void client.channel(`other ${n}`).subscribe().catch(() => {});
  void room.subscribe({ getToken: () => new Promise<string>(() => {}) }).catch(() => {});
  await settle();
  void room.unsubscribe();
  await settle();
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(1);
  await world.socket.refuse("unsubscribe_channel", "unavailable", { temporary: true });
  await world.pass(5000);
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
});

test("a rate limit for an unsubscribed channel delays the subscriptions of the others", async () => {
  const { client, world } = await subscriber();
  const refused = client.channel("refused");
  void refused.subscribe().catch(() => {});
  await settle();
  void refused.unsubscribe();
  await world.socket.refuse("subscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 700 } });
  void client.channel("other").subscribe();
  await world.pass(699);
  expect(world.socket.all("subscribe_channel").map(({ channel }) => channel)).toEqual(["room", "refused"]);
  await world.pass(1);
  expect(world.socket.last("subscribe_channel")["channel"]).toBe("other");
});

/** Returns a client whose channels were subscribed to and unsubscribed before the server's answer. */
async function givenUp(count: number) {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const rooms = Array.from({ length: count }, (_, n) => client.channel(`room:${n}`));
  const asked = rooms.map((room) => fate(room.subscribe()));
  await settle();
  const ends = rooms.map((room) => fate(room.unsubscribe()));
  await settle();
  const said = () => world.socket.heard.map(({ type }) => type).filter((type) => type !== "ping");
  return { world, client, rooms, asked, ends, said };
}

// A strict server counts each needless unsubscribe request as an error, and soon closes the client.
test.each(["rate_limited", "permission_denied"])("subscriptions that are refused with %s after unsubscribing send no unsubscribe request", async (error_type) => {
  const { world, asked, ends, said } = await givenUp(16);
  for (const { id } of world.socket.all("subscribe_channel")) {
    await world.socket.say({ type: "error", id, error_type, message: "no", timestamp: 1, temporary: error_type === "rate_limited" });
  }
  await world.pass(5000);
  expect([...new Set(said())]).toEqual(["subscribe_channel"]);
  expect([...asked, ...ends].map(({ now }) => now)).toEqual([...asked.map(() => "unsubscribed"), ...ends.map(() => "done")]);
});

test("a channel that is unsubscribed after a temporary refusal sends no unsubscribe request", async () => {
  const world = new World();
  const room = (await world.connected()).channel("room");
  void room.subscribe().catch(() => {});
  await settle();
  await world.socket.refuse("subscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 700 } });
  const end = fate(room.unsubscribe());
  await world.pass(5000);
  expect([end.now, world.socket.heard.map(({ type }) => type)]).toEqual(["done", ["subscribe_channel"]]);
});

test.each([["", true], ["already_subscribed", true], ["rate_limited", false], ["permission_denied", false]])(
  "subscribing again while an unsubscribe waits sends the request after it, if the answer is '%s'",
  async (error_type, isEnded) => {
    const { world, rooms, asked, ends, said } = await givenUp(1);
    const again = fate(rooms[0]!.subscribe());
    await settle();
    expect(said()).toEqual(["subscribe_channel"]);
    if (error_type) await world.socket.refuse("subscribe_channel", error_type, { temporary: error_type === "rate_limited" });
    else await world.socket.ack("subscribe_channel", { channel: "room:0", recoverable: false });
    if (isEnded) await world.socket.ack("unsubscribe_channel");
    await world.pass(1000);
    expect(said().slice(1)).toEqual([...(isEnded ? ["unsubscribe_channel"] : []), "subscribe_channel"]);
    await world.socket.ack("subscribe_channel", { channel: "room:0", ...start, recoverable: true });
    expect([asked[0]?.now, ends[0]?.now, again.now]).toMatchObject(["unsubscribed", "done", { position: start }]);
  },
);

test("an unanswered subscribe request delays neither its unsubscribe nor the next subscription", async () => {
  const { world, rooms, ends, said } = await givenUp(1);
  const again = fate(rooms[0]!.subscribe());
  await world.pass(11_000);
  expect(said()).toEqual(["subscribe_channel", "unsubscribe_channel", "subscribe_channel"]);
  const [first, next] = world.socket.all("subscribe_channel");
  await world.socket.say({ type: "ack", id: first?.["id"], data: { channel: "room:0", recoverable: false } });
  await world.socket.ack("unsubscribe_channel");
  await world.socket.say({ type: "ack", id: next?.["id"], data: { channel: "room:0", ...start, recoverable: true } });
  expect([ends[0]?.now, again.now, said().length]).toMatchObject(["done", { position: start }, 3]);
});

test.each([true, false])("a subscription that ended before its answer was lost is ended if the session has it", async (isThere) => {
  const { world, rooms, ends, said } = await givenUp(1);
  const subscriptions = isThere ? [{ channel: "room:0", ...start, recoverable: true, recovered: false, reason: "unknown_position" }] : [];
  await world.lose({ resumed: true, resume: { token: "u" }, subscriptions });
  await world.pass(1000);
  expect(said()).toEqual(isThere ? ["resume", "unsubscribe_channel"] : ["resume"]);
  expect([ends[0]?.now, rooms[0]?.state.name]).toEqual(["done", "unsubscribed"]);
});

test("a move while an unsubscribe waits ends no subscription of the next connection", async () => {
  const { world, rooms, said } = await givenUp(1);
  const again = fate(rooms[0]!.subscribe());
  await world.socket.say({ type: "reconnect", after: [0, 0] });
  await world.pass(3000);
  await world.socket.accept({ resumed: false });
  await world.pass(1000);
  expect(said()).toEqual(["resume", "subscribe_channel"]);
  await world.socket.ack("subscribe_channel", { channel: "room:0", ...start, recoverable: true });
  await world.pass(20_000);
  expect([again.now, said().length]).toMatchObject([{ position: start }, 2]);
});

test("a subscription by the server counts at once if the channel is wanted again and no unsubscribe is queued", async () => {
  const world = new World();
  const room = (await world.connected()).channel("room");
  void room.subscribe().catch(() => {});
  await settle();
  await world.socket.refuse("subscribe_channel", "unavailable", { temporary: true });
  void room.unsubscribe();
  const again = fate(room.subscribe());
  // The message arrives in the same chunk as the refusal.
  await world.socket.say({ type: "subscribed", channel: "room", ...start, recoverable: true }, message(11));
  await world.pass(5000);
  expect([again.now, room.position?.offset, world.socket.all("subscribe_channel").length]).toMatchObject([{ position: start }, 11, 1]);
});

test.each([0, 1, 2, 3])("subscribing again %d microtasks after the answer sends the request after the unsubscribe", async (moments) => {
  const world = new World();
  const room = (await world.connected()).channel("room");
  void room.subscribe().catch(() => {});
  await settle();
  void room.unsubscribe();
  await settle();
  const { id } = world.socket.last("subscribe_channel");
  world.socket.onmessage?.({ data: JSON.stringify({ type: "ack", id, data: { channel: "room", ...start, recoverable: true } }) } as never);
  for (let n = 0; n < moments; n++) await undefined;
  void room.subscribe();
  await settle();
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel", "unsubscribe_channel", "subscribe_channel"]);
});
