// Positions: every message arrives once and in order, and every message that may be missing is reported.

import { expect, test } from "vitest";
import type { Gap } from "../src/index.js";
import { start, subscriber, message } from "./subscriber.js";
import { World, fate, settle } from "./world.js";

/** Returns a session with a subscription at position 4, and the messages that it receives from then on. */
async function positioned(world: World) {
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  const message = (offset: number) => ({ type: "message", channel: "room:1", content: 1, timestamp: 1, offset });
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 1 });
  await world.socket.say(message(2), message(3), message(4));
  room.on("message", ({ offset }) => heard.push(offset));
  room.onGap(({ reason }) => heard.push(reason));
  return { room, heard, message };
}

test("each offset is delivered once, whatever the type of the message, and advances the position", async () => {
  const { room, world, heard } = await subscriber();
  await world.socket.say(message(11), message(12, "note"), message(14));
  expect(heard).toEqual([11, 12, 14]);
  expect(room.position).toEqual({ epoch: "E", offset: 14 });
});

test("a message without an offset is delivered when it arrives", async () => {
  const { room, world, heard, gaps } = await subscriber({ recoverable: false });
  const plain = { type: "message", channel: "room", content: "x", timestamp: 1 };
  await world.socket.say(plain, plain);
  expect(heard).toEqual(["x", "x"]);
  expect(room.position).toBeUndefined();
  expect(gaps).toEqual([]);
});

test("a reconnect recovers from the position, and a successful recovery reports no gap", async () => {
  const { room, world, heard, gaps, states } = await subscriber();
  await world.socket.say(message(11));
  await world.lose();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ channel: "room", metadata: { device: "phone" }, recover: { epoch: "E", offset: 11 } });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 13, recoverable: true, recovered: true });
  expect(room.state).toEqual({ name: "subscribed", recovered: { from: { epoch: "E", offset: 11 }, to: { epoch: "E", offset: 13 } } });
  await world.socket.say(message(12), message(13), message(14));
  expect(heard).toEqual([11, 12, 13, 14]);
  expect(room.position?.offset).toBe(14);
  expect(gaps).toEqual([]);
  expect(states).toEqual(["subscribing", "subscribed", "subscribing", "subscribed"]);
});

test.each([
  ["too_old", { epoch: "E", offset: 90, recoverable: true, recovered: false, reason: "too_old" }, 80],
  ["too_many", { epoch: "E", offset: 90, recoverable: true, recovered: false, reason: "too_many" }, 80],
  ["epoch_changed", { epoch: "F", offset: 3, recoverable: true, recovered: false, reason: "epoch_changed" }, undefined],
  ["not_recoverable", { recoverable: false }, undefined],
] as const)("a failed recovery is reported as a gap: %s", async (reason, answer, missed) => {
  const { client, room, world, heard, gaps } = await subscriber();
  const everywhere: Gap[] = [];
  client.onGap((gap) => everywhere.push(gap));
  await world.lose();
  await world.socket.ack("subscribe_channel", { channel: "room", ...answer });
  const to = "epoch" in answer ? { epoch: answer.epoch, offset: answer.offset } : undefined;
  expect(gaps).toEqual([{ channel: "room", reason, from: start, to, missed }]);
  expect(everywhere).toEqual(gaps);
  expect(room.position).toEqual(to);
  await world.socket.say(message((to?.offset ?? 0) + 1));
  expect(heard).toHaveLength(1);
});

test("a channel without history reports a possible gap after every reconnect, resumed or not", async () => {
  for (const resumed of [false, true]) {
    const { world, gaps } = await subscriber({ recoverable: false }, { resume: { token: "t" } });
    const subscriptions = resumed ? [{ channel: "room", recoverable: false }] : [];
    await world.lose({ resumed, subscriptions });
    if (!resumed) await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
    expect(gaps).toEqual([{ channel: "room", reason: "not_recoverable", from: undefined, to: undefined, missed: undefined }]);
  }
});

test("a subscription that was pending at the connection loss is requested again, and reports no gap", async () => {
  const world = new World();
  const client = await world.connected();
  const gaps: Gap[] = [];
  client.onGap((gap) => gaps.push(gap));
  const subscription = fate(client.channel("room").subscribe());
  await settle();
  await world.lose();
  expect(subscription.now).toBe("pending");
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect(subscription.now).toMatchObject({ position: start, recoverable: true });
  expect(gaps).toEqual([]);
});

test("a gap is filled from the history, page by page, before later messages are delivered", async () => {
  const { room, world, heard, gaps } = await subscriber();
  await world.socket.say(message(11), { type: "gap", channel: "room", epoch: "E", offset: 11, missed: 5 }, message(17));
  expect(world.socket.last("history")).toMatchObject({ channel: "room", since: { epoch: "E", offset: 11 } });
  expect(heard).toEqual([11]);
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 17, messages: [message(12), message(13)] });
  expect(world.socket.last("history")).toMatchObject({ since: { epoch: "E", offset: 13 } });
  await world.socket.say(message(18));
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 18, messages: [14, 15, 16, 17].map((n) => message(n)) });
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 18, messages: [message(18)] });
  expect(heard).toEqual([11, 12, 13, 14, 15, 16, 17, 18]);
  expect(room.position?.offset).toBe(18);
  expect(gaps).toEqual([]);
});

test("a second gap after the first is filled after it", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 1 }, message(12));
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 12, missed: 2 }, message(15));
  await world.socket.ack("history", { epoch: "E", offset: 15, messages: [message(11), message(12)] });
  expect(world.socket.last("history")).toMatchObject({ since: { epoch: "E", offset: 12 } });
  await world.socket.ack("history", { epoch: "E", offset: 15, messages: [message(13), message(14), message(15)] });
  // The second gap names a position that the history has passed already.
  await world.socket.ack("history", { epoch: "E", offset: 15, messages: [] });
  expect(heard).toEqual([11, 12, 13, 14, 15]);
  expect(gaps).toEqual([]);
});

test.each([
  ["too_old", async (world: World) => world.socket.ack("history", { epoch: "E", offset: 17, messages: [] }), 16],
  ["epoch_changed", async (world: World) => world.socket.ack("history", { epoch: "F", offset: 17, messages: [] }), undefined],
  ["not_recoverable", async (world: World) => world.socket.refuse("history", "permission_denied"), 16],
] as const)("a gap that the history cannot fill is reported: %s", async (reason, answer, top) => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 6 }, message(17));
  await answer(world);
  expect(gaps).toMatchObject([{ channel: "room", reason, from: start, missed: top && 6 }]);
  expect(heard, "later messages are delivered").toEqual([17]);
  await world.socket.say(message(18));
  expect(heard).toEqual([17, 18]);
});

test("a gap in a channel without history is reported with the number of messages", async () => {
  const { world, gaps } = await subscriber({ recoverable: false });
  await world.socket.say({ type: "gap", channel: "room", epoch: "AAAAAAAAAAA", offset: 0, missed: 4 });
  expect(gaps).toEqual([{ channel: "room", reason: "not_recoverable", from: undefined, to: undefined, missed: 4 }]);
});

test("a gap that is being filled when the connection is lost is filled by the recovery", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 }, message(13));
  await world.lose();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ recover: start });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 13, recoverable: true, recovered: true });
  await world.socket.say(message(11), message(12), message(13));
  expect(heard).toEqual([11, 12, 13]);
  expect(gaps).toEqual([]);
});

test("too many live messages during the history request end the waiting and report a gap", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 });
  await world.socket.say(...Array.from({ length: 10_001 }, (_, n) => message(13 + n)));
  expect(gaps).toMatchObject([{ reason: "too_many", missed: 2 }]);
  expect(heard).toHaveLength(10_001);
});

test("messages that a subscription by the server has missed are loaded from the history of the same stream", async () => {
  for (const when of ["with the session", "later"]) {
    const world = new World();
    const client = await world.connected({}, { subscriptions: [{ channel: "room", ...start, recoverable: true }] });
    const [heard, gaps]: [unknown[], Gap[]] = [[], []];
    client.channel("room").on("message", ({ offset }) => heard.push(offset));
    client.onGap((gap) => gaps.push(gap));
    const entry = { channel: "room", epoch: "E", offset: 12, recoverable: true };
    await world.lose(when === "later" ? {} : { subscriptions: [entry] });
    if (when === "later") {
      expect(client.channel("room").state).toEqual({ name: "subscribing" });
      await world.socket.say({ type: "subscribed", ...entry });
    }
    await world.socket.say(message(13));
    expect(world.socket.last("history")).toMatchObject({ since: start });
    await world.socket.ack("history", { epoch: "E", offset: 13, messages: [11, 12, 13].map((n) => message(n)) });
    expect(heard).toEqual([11, 12, 13]);
    expect(gaps).toEqual([]);
  }
});

test("messages of another stream that a subscription by the server has missed are reported as a gap", async () => {
  const world = new World();
  const client = await world.connected({}, { subscriptions: [{ channel: "room", ...start, recoverable: true }] });
  const gaps: Gap[] = [];
  client.onGap((gap) => gaps.push(gap));
  await world.lose({ subscriptions: [{ channel: "room", epoch: "F", offset: 2, recoverable: true }] });
  expect(gaps).toMatchObject([{ reason: "epoch_changed", from: start, to: { epoch: "F", offset: 2 } }]);
});

test("a stream that restarts while the old one's history is requested is delivered from there on", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 });
  const asked = world.socket.last("history")["id"];
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 3, recoverable: true }, message(4));
  await world.socket.say({ type: "ack", id: asked, data: { epoch: "F", offset: 4, messages: [] } }, message(5));
  expect(heard).toEqual([4, 5]);
  expect(gaps).toMatchObject([{ reason: "epoch_changed", to: { epoch: "F", offset: 3 } }]);
});

test("missing publications between delivered ones are loaded, too", async () => {
  const { world, heard, gaps } = await subscriber();
  // The latest message of each kind is kept: 11 and 15 were dropped.
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 }, ...[12, 13, 14, 16].map((n) => message(n)));
  await world.socket.ack("history", { epoch: "E", offset: 16, messages: [message(11)] });
  await world.socket.ack("history", { epoch: "E", offset: 16, messages: [12, 13, 14, 15, 16].map((n) => message(n)) });
  expect(heard).toEqual([11, 12, 13, 14, 15, 16]);
  expect(gaps).toEqual([]);
});

test.each([
  ["an unknown epoch", { epoch: "AAAAAAAAAAA", offset: 0, missed: 310 }],
  ["a later position", { epoch: "E", offset: 99, missed: 1 }],
])("a gap that names %s is filled from the client's position", async (_, named) => {
  const { room, world, heard, gaps } = await subscriber();
  await world.socket.say(message(11), { type: "gap", channel: "room", ...named }, message(15));
  expect(world.socket.last("history")).toMatchObject({ since: { epoch: "E", offset: 11 } });
  await world.socket.ack("history", { epoch: "E", offset: 15, messages: [12, 13, 14, 15].map((n) => message(n)) });
  await world.socket.say(message(16));
  expect(heard).toEqual([11, 12, 13, 14, 15, 16]);
  expect(room.position).toEqual({ epoch: "E", offset: 16 });
  expect(gaps).toEqual([]);
});

test("a gap of presence changes moves no position, and loads the presence list", async () => {
  const { room, world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "presence_state", channel: "room", count: 0, users: {}, offset: 3 });
  await world.socket.say({ type: "gap", channel: "room", missed: 0 }, message(11));
  expect(world.socket.all("presence")).toHaveLength(1);
  expect(world.socket.all("history")).toEqual([]);
  expect(heard).toEqual([11]);
  expect(room.position).toEqual({ epoch: "E", offset: 11 });
  expect(gaps).toEqual([]);
});

test("an epoch change without loss is adopted, and recovery continues from it", async () => {
  for (const offset of [0, 10, 150]) {
    const { room, world, heard, gaps, states } = await subscriber();
    await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset, recoverable: true, recovered: true });
    for (let n = 1; n <= 20; n++) await world.socket.say(message(offset + n));
    expect(heard).toEqual(Array.from({ length: 20 }, (_, n) => offset + n + 1));
    expect(room.position).toEqual({ epoch: "F", offset: offset + 20 });
    expect(gaps).toEqual([]);
    expect(states).toEqual(["subscribing", "subscribed"]);
    await world.lose();
    expect(world.socket.last("subscribe_channel")).toMatchObject({ recover: { epoch: "F", offset: offset + 20 } });
  }
});

test("an epoch change with loss is reported", async () => {
  const { room, world, heard, gaps } = await subscriber();
  const turned = { type: "subscribed", channel: "room", epoch: "F", offset: 3, recoverable: true, recovered: false, reason: "epoch_changed" };
  await world.socket.say(turned, message(4), message(5));
  expect(gaps).toEqual([{ channel: "room", reason: "epoch_changed", from: start, to: { epoch: "F", offset: 3 }, missed: undefined }]);
  expect(heard).toEqual([4, 5]);
  expect(room.position).toEqual({ epoch: "F", offset: 5 });
});

test("a repeated confirmation in the same epoch does not move the position back", async () => {
  const { room, world, gaps } = await subscriber();
  await world.socket.say(message(12));
  for (const said of [{}, { recovered: true }, { recovered: false, reason: "epoch_changed" }]) {
    await world.socket.say({ type: "subscribed", channel: "room", epoch: "E", offset: 11, recoverable: true, ...said });
  }
  expect(room.position).toEqual({ epoch: "E", offset: 12 });
  expect(gaps).toEqual([]);
});

test("a recovery under another epoch keeps the offset", async () => {
  const { room, world, heard, gaps } = await subscriber();
  await world.lose();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "F", offset: 12, recoverable: true, recovered: true });
  await world.socket.say(message(11), message(12), message(13));
  expect(heard).toEqual([11, 12, 13]);
  expect(room.position).toEqual({ epoch: "F", offset: 13 });
  expect(gaps).toEqual([]);
});

test.each(["epoch_changed", undefined])("a stream that restarts without notice is reported as a gap and delivered: %s", async (reason) => {
  for (const before of [[], [11, 12]]) {
    const { world, heard, gaps } = await subscriber();
    for (const n of [...before, 1, 2]) await world.socket.say(message(n));
    expect(world.socket.last("history")).toMatchObject({ since: { epoch: "E", offset: before.at(-1) ?? 10 } });
    await world.socket.refuse("history", reason ? "validation_error" : "permission_denied", { details: { reason } });
    for (let n = 3; n <= 20; n++) await world.socket.say(message(n));
    expect(gaps).toMatchObject([{ reason: reason ?? "not_recoverable" }]);
    expect(heard).toEqual([...before, ...Array.from({ length: 20 }, (_, n) => n + 1)]);
    // The server names a position again.
    await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 20, recoverable: true, recovered: true }, message(21));
    expect(heard.at(-1)).toBe(21);
    expect(gaps).toHaveLength(1);
  }
});

test("a repeated offset is delivered once and is not a gap", async () => {
  const { world, heard, gaps } = await subscriber();
  for (const n of [11, 12, 12, 13]) await world.socket.say(message(n));
  await world.socket.ack("history", { epoch: "E", offset: 13, messages: [message(13)] });
  await world.socket.say(message(14));
  expect(heard).toEqual([11, 12, 13, 14]);
  expect(gaps).toEqual([]);
});

test("messages held for the history are not lost when the epoch changes", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 }, message(13), message(14));
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 14, recoverable: true, recovered: true }, message(15));
  expect(gaps).toHaveLength(1);
  expect(heard).toEqual([13, 14, 15]);
});

test("a publication that was sent before the epoch changed is not sent again", async () => {
  const { room, world } = await subscriber({ ...start, recoverable: true }, { resume: { token: "t" } });
  const before = fate(room.publish(1));
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 10, recoverable: true, recovered: true });
  const after = fate(room.publish(2));
  const subscriptions = [{ channel: "room", epoch: "F", offset: 10, recoverable: true, recovered: true }];
  await world.lose({ resumed: true, resume: { token: "u" }, subscriptions });
  expect(before.now).toBe("outcome_unknown");
  expect(after.now).toBe("pending");
  expect(world.socket.all("channel_message")).toMatchObject([{ content: 2 }]);
});

test("a publication whose channel has another epoch after the loss is not sent again, resumed or not", async () => {
  for (const recovered of [true, false]) {
    const { room, world } = await subscriber({ ...start, recoverable: true }, { resume: { token: "t" } });
    const published = fate(room.publish(1));
    const subscriptions = [{ channel: "room", epoch: "F", offset: 10, recoverable: true, recovered, reason: recovered ? undefined : "epoch_changed" }];
    await world.lose({ resumed: true, resume: { token: "u" }, subscriptions });
    expect(published.now).toBe("outcome_unknown");
    expect(world.socket.all("channel_message")).toEqual([]);
  }
});

test("a publication sent before an epoch change is not sent again, however the change is announced", async () => {
  const gap = { type: "gap", channel: "room", epoch: "F", offset: 1, missed: 1 };
  const page = { channel: "room", epoch: "F", offset: 11, messages: [message(11)] };
  const turns: Record<string, (world: World) => Promise<void>> = {
    "by a gap and a page of the next epoch": async (world) => {
      await world.socket.say(gap);
      await world.socket.ack("history", page);
    },
    "by a page, after an offset that is not higher": async (world) => {
      await world.socket.say(message(11), message(11));
      await world.socket.ack("history", page);
    },
    "by the history's end": async (world) => {
      await world.socket.say(gap);
      await world.socket.ack("history", { channel: "room", epoch: "F", offset: 2, messages: [] });
    },
    "by the history's refusal": async (world) => {
      await world.socket.say(message(1));
      await world.socket.refuse("history", "validation_error", { details: { reason: "epoch_changed" } });
    },
    "by nobody, behind an offset that is not higher": async (world) => {
      await world.socket.say(message(1));
      await world.socket.refuse("history", "permission_denied");
    },
  };
  for (const [how, turn] of Object.entries(turns)) {
    const { room, world } = await subscriber({ ...start, recoverable: true }, { resume: { token: "t" } });
    const published = fate(room.publish(1));
    await turn(world);
    const subscriptions = [{ channel: "room", epoch: "F", offset: 11, recoverable: true, recovered: true }];
    await world.lose({ resumed: true, resume: { token: "u" }, subscriptions });
    expect([published.now, world.socket.all("channel_message")], how).toEqual(["outcome_unknown", []]);
  }
});

test("a publication is not sent again if nothing shows the epoch in which it was sent", async () => {
  const { room, world } = await subscriber({ ...start, recoverable: true }, { resume: { token: "t" } });
  await world.socket.say(message(1));
  await world.socket.refuse("history", "validation_error", { details: { reason: "epoch_changed" } });
  expect(room.position).toBeUndefined();
  const published = fate(room.publish(1));
  const subscriptions = [{ channel: "room", epoch: "G", offset: 2, recoverable: true, recovered: false, reason: "unknown_position" }];
  await world.lose({ resumed: true, resume: { token: "u" }, subscriptions });
  expect([published.now, world.socket.all("channel_message")]).toEqual(["outcome_unknown", []]);
});

test("a refused history page after successful ones duplicates nothing", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 2 }, message(13));
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 14, messages: [message(11), message(12), message(13)] });
  await world.socket.say(message(15));
  await world.socket.refuse("history", "permission_denied");
  expect(heard).toEqual([11, 12, 13, 15]);
  expect(gaps).toMatchObject([{ from: { offset: 13 }, to: { offset: 14 }, missed: 1 }]);
});

test("a gap among the held messages is reported, too, when the epoch changes", async () => {
  const { room, world, heard, gaps } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 1 }, message(12));
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 12, missed: 1 }, message(14));
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 15, recoverable: true, recovered: true });
  expect(heard).toEqual([12, 14]);
  expect(gaps).toMatchObject([{ reason: "epoch_changed" }, { reason: "epoch_changed" }]);
  expect(room.position).toEqual({ epoch: "F", offset: 15 });
});

test("a gap among the messages held for a lost epoch keeps the position that it names", async () => {
  const { world, heard, gaps } = await subscriber();
  await world.socket.say(message(11), message(1), { type: "gap", channel: "room", epoch: "F", offset: 1, missed: 1 });
  await world.socket.refuse("history", "validation_error", { details: { reason: "epoch_changed" } });
  expect(heard).toEqual([11, 1]);
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "G", offset: 0, recoverable: true, recovered: false, reason: "epoch_changed" });
  expect(gaps.map(({ reason, to }) => [reason, to?.epoch])).toEqual([["epoch_changed", undefined], ["epoch_changed", "G"]]);
});

test("an epoch change with loss is reported even if the position had been lost before", async () => {
  const { world, gaps } = await subscriber();
  await world.socket.say(message(11), message(1));
  await world.socket.refuse("history", "validation_error", { details: { reason: "epoch_changed" } });
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "G", offset: 3, recoverable: true, recovered: false, reason: "epoch_changed" });
  expect(gaps.map(({ to }) => to)).toEqual([undefined, { epoch: "G", offset: 3 }]);
});

test("reconnecting while held messages are delivered keeps the position of the last delivered one", async () => {
  const { client, room, world, heard } = await subscriber();
  room.on("message", ({ offset }) => offset === 12 && client.reconnect());
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 1 }, message(12), message(13));
  await world.socket.say({ type: "subscribed", channel: "room", epoch: "F", offset: 13, recoverable: true, recovered: true });
  expect(heard).toEqual([12]);
  expect(room.position).toEqual({ epoch: "E", offset: 12 });
});

test("subscribing again from an older position in the same session delivers the messages between", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  room.on("message", ({ offset }) => heard.push(offset));
  room.onGap(({ reason }) => heard.push(reason));
  const message = (offset: number) => ({ type: "message", channel: "room:1", content: 1, timestamp: 1, offset });
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 1 });
  await world.socket.say(message(2), message(3));
  await world.socket.drop();
  const next = await world.attempt();
  await next.open();
  expect(next.last("resume")).toMatchObject({ positions: { "room:1": { epoch: "E", offset: 3 } } });
  void room.unsubscribe();
  void room.subscribe({ since: { epoch: "E", offset: 1 } });
  await settle();
  heard.length = 0;
  const said = { channel: "room:1", epoch: "E", offset: 4, recoverable: true, recovered: true };
  await next.say({ type: "session", connection_id: "c-2", user: "ana", resumed: true, subscriptions: [said] }, message(4));
  await settle();
  expect(next.last("history")).toMatchObject({ since: { epoch: "E", offset: 1 } });
  await next.ack("history", { epoch: "E", offset: 4, messages: [message(2), message(3), message(4)] });
  expect(heard).toEqual([2, 3, 4]);
});

test("subscribing again from an older position during a move delivers the messages between", async () => {
  const world = new World();
  const { room, heard, message } = await positioned(world);
  const old = world.socket;
  await old.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  const next = await world.attempt();
  await next.open();
  expect(next.last("resume")).toMatchObject({ positions: { "room:1": { epoch: "E", offset: 4 } } });
  void room.unsubscribe();
  void room.subscribe({ since: { epoch: "E", offset: 1 } });
  await settle();
  expect(old.last("subscribe_channel")).toMatchObject({ recover: { epoch: "E", offset: 1 } });
  await old.ack("subscribe_channel", { channel: "room:1", epoch: "E", offset: 5, recoverable: true, recovered: true });
  await old.say(message(2));
  const said = { channel: "room:1", epoch: "E", offset: 5, recoverable: true, recovered: true };
  await next.say({ type: "session", connection_id: "c-2", user: "ana", resumed: true, subscriptions: [said] }, message(5));
  expect(next.last("history")).toMatchObject({ since: { epoch: "E", offset: 2 } });
  await next.ack("history", { epoch: "E", offset: 5, messages: [message(3), message(4), message(5)] });
  expect(heard).toEqual([2, 3, 4, 5]);
});

test("subscribing again from another epoch in the same session reports a possible gap", async () => {
  const world = new World();
  const { room, heard, message } = await positioned(world);
  await world.socket.drop();
  const next = await world.attempt();
  await next.open();
  void room.unsubscribe();
  void room.subscribe({ since: { epoch: "A", offset: 50 } });
  const said = { channel: "room:1", epoch: "E", offset: 5, recoverable: true, recovered: true };
  await next.say({ type: "session", connection_id: "c-2", user: "ana", resumed: true, subscriptions: [said] }, message(5), message(6));
  expect(heard).toEqual(["epoch_changed", 5, 6]);
  expect(room.position).toEqual({ epoch: "E", offset: 6 });
});

test("unsubscribing and subscribing again during a move duplicates no messages", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const old = world.socket;
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  room.on("message", ({ offset }) => heard.push(offset));
  room.onGap(({ reason }) => heard.push(reason));
  void room.subscribe();
  await settle();
  await old.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
  await old.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(10);
  await world.socket.open();
  await old.say({ type: "message", channel: "room:1", content: 1, timestamp: 1, offset: 8 });
  void room.unsubscribe();
  void room.subscribe();
  await settle();
  const said = { channel: "room:1", epoch: "E", offset: 8, recoverable: true, recovered: true };
  await world.socket.say({ type: "session", connection_id: "c-2", user: "ana", resumed: true, subscriptions: [said] });
  for (const offset of [8, 9]) await world.socket.say({ type: "message", channel: "room:1", content: 1, timestamp: 1, offset });
  expect(world.socket.all("history")).toEqual([]);
  expect(heard).toEqual([8, 9]);
});

// This is not solved: after an answer of the history, the next offset may equally belong to a message that
// the answer contains.
test.fails("an unannounced epoch change right after a gap is detected by its first offset", async () => {
  const { heard, gaps, world } = await subscriber();
  await world.socket.say({ type: "gap", channel: "room", ...start, missed: 1 });
  await world.socket.ack("history", { channel: "room", epoch: "E", offset: 11, messages: [message(11)] });
  await world.socket.say(message(11), message(12));
  await settle();
  expect([heard, gaps.length > 0 || world.socket.all("history").length > 1]).toEqual([expect.anything(), true]);
});
