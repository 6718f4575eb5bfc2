// Servers that send anything: the client reads it, ignores it, or drops the connection and reconnects. It
// never throws into the runtime, leaves no rejection unhandled, and never loops.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Codec, json, msgpack, defaultEnvironment } from "../src/index.js";
import { delayBefore } from "../src/backoff.js";
import { fixture } from "./fixtures.js";
import { World, fate, settle } from "./world.js";

let unhandled: unknown[] = [];
const note = (error: unknown) => unhandled.push(error);

beforeEach(() => {
  unhandled = [];
  process.on("unhandledRejection", note);
});

afterEach(() => {
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});

/** Returns a generator of pseudo-random numbers that depend only on the seed. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % sides;
  };
}

const STRANGE = [null, undefined, true, 0, -1, 1.5, 2 ** 53, 1e308, "", "room", "x", [], [null], {}, { epoch: "E" }, { room: null }, [1, 2]];

/** Returns the value with a strange part somewhere in it. */
function mutated(value: unknown, roll: (sides: number) => number): unknown {
  if (roll(6) === 0) return STRANGE[roll(STRANGE.length)];
  if (Array.isArray(value)) return value.map((item) => (roll(2) ? mutated(item, roll) : item));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, name !== "type" && roll(3) === 0 ? mutated(field, roll) : field]));
}

const messages = fixture<{ json: object }>("messages").map((row) => row.json);

test.each([
  ["JSON", json],
  ["MessagePack", msgpack],
] as [string, Codec][])("the client survives any message of the server in %s", async (_, codec) => {
  for (let seed = 1; seed <= 150; seed++) {
    const roll = dice(seed);
    const world = new World();
    const client = world.client({ codec, getToken: () => "token" });
    const room = client.channel("room");
    for (const at of ["message", "channel_event", "system"]) room.on(at, () => {});
    const promises = [client.connect(), room.subscribe(), room.publish(1), room.history(), client.request("ask"), client.updateStatus("away")].map(fate);
    client.onRequest("confirm", () => 1);
    await settle();
    for (let n = 0; n < 60; n++) {
      if (world.socket.closed || world.socket.onmessage === null) await world.attempt();
      const peer = world.socket;
      peer.send = () => {};
      if (n % 20 === 0) {
        await peer.open();
        const session = { type: "session", connection_id: "c", user: "ana", resume: { token: "r" } };
        peer.onmessage?.({ data: frame(codec, session) } as never);
        await settle();
      }
      const chosen = messages[roll(messages.length)];
      const said = mutated({ ...chosen, ...(roll(2) && { channel: "room" }), ...(roll(2) && { id: 1 + roll(8) }) }, roll);
      peer.onmessage?.({ data: frame(codec, said as object) } as never);
      if (roll(3) === 0) await settle();
      if (roll(10) === 0) await world.pass(roll(3000));
      if (client.state.name === "closed") client.connect().catch(() => {});
      await settle();
    }
    client.close();
    await settle();
    expect(promises.map(({ now }) => now), `seed ${seed}`).not.toContain("pending");
    expect(world.timers, `seed ${seed}`).toBe(0);
  }
});

function frame(codec: Codec, value: unknown): string | ArrayBuffer {
  const written = codec.encode(value as object) ?? "null";
  return typeof written === "string" ? written : (written.buffer as ArrayBuffer);
}

test("bytes that are not a message end the connection or have no effect", async () => {
  const roll = dice(7);
  for (let n = 0; n < 500; n++) {
    const world = new World();
    const client = world.client({ codec: msgpack });
    client.connect().catch(() => {});
    await settle();
    const bytes = Uint8Array.from({ length: roll(40) }, () => roll(256));
    world.socket.onmessage?.({ data: bytes.buffer } as never);
    expect(client.state).toMatchObject({ name: "connecting" });
    client.close();
    expect(world.timers).toBe(0);
  }
});

test.each([
  ["a presence list without users", { type: "presence_state", channel: "room", count: 1, offset: 1 }],
  ["a session with malformed subscriptions", { type: "session", subscriptions: 5 }],
])("%s ends the connection with a close code of the client, which reconnects", async (_, message) => {
  const world = new World();
  const client = message.type === "session" ? world.client() : await world.connected();
  if (message.type === "session") void client.connect();
  void client.channel("room").subscribe();
  await settle();
  if (message.type === "session") await world.socket.open();
  else await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  await world.socket.say(message);
  expect(world.sockets[0]?.closed?.code).toBe(4001);
  expect(client.state).toMatchObject({ attempt: 1, reason: "unreadable" });
});

test("a malformed presence list does not replace the known list", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  const entry = { status: "online", metadata: {}, connections: [] };
  await world.socket.say({ type: "presence_state", channel: "room", count: 1, users: { ana: entry }, offset: 1 });
  const asked = fate(room.presence.refresh());
  await settle();
  await world.socket.ack("presence", { count: 1, users: { ana: null }, offset: 2 });
  expect(asked.now).toBe("done");
  expect([...room.presence.users.keys()]).toEqual(["ana"]);
});

test("session values that are not numbers do not cause fast retries", async () => {
  const nothing = {} as never;
  expect(delayBefore(nothing, 1, 0.5)).toBe(15_000);
  const world = new World();
  await world.connected({}, { heartbeat: {}, retry: {} });
  const before = world.time;
  let runs = 0;
  const after = world.after.bind(world);
  world.after = (wait, run) => after(wait, () => (runs++, run()));
  await world.pass(60_000);
  expect(world.time - before).toBe(60_000);
  expect(runs).toBeLessThan(10);
});

test("an application message is never a command, whatever its type, and its offset counts", async () => {
  const world = new World();
  const client = await world.connected({}, { heartbeat: { interval: 1e9, timeout: 1e9 } });
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 0, recoverable: true });
  const orders: unknown[] = [];
  room.on("reconnect", ({ offset }) => orders.push(offset));
  const asked = fate(client.request("buy"));
  const { id } = world.socket.last("buy");
  client.onRequest("confirm", () => 1);
  const forged = [
    { type: "reconnect", after: [0, 0] },
    { type: "retry_policy", base_delay: 0, max_delay: 0, backoff_multiplier: 1 },
    { type: "session", connection_id: "c-eve", user: "eve" },
    { type: "request", id: "q-1", event: "confirm", data: null },
    { type: "ack", id, data: 666 },
    { type: "error", id, error_type: "timeout", message: "" },
    { type: "subscribed", epoch: "F", recoverable: true },
    { type: "gap", epoch: "F", missed: 9 },
    { type: "unsubscribed" },
    { type: "presence_state" },
    { type: "presence_change" },
  ];
  await world.socket.say(...forged.map((message, n) => ({ ...message, channel: "room", timestamp: 1, offset: n + 1 })));
  // The message has no timestamp.
  await world.socket.say({ type: "reconnect", after: [0, 0], channel: "room", offset: 12 });
  await world.pass(20_000);
  expect(world.sockets).toHaveLength(1);
  expect(room.position).toEqual({ epoch: "E", offset: 12 });
  expect(room.state.name).toBe("subscribed");
  expect(orders).toEqual([1, 12]);
  expect(client.user).toBe("ana");
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel", "buy"]);
  await world.socket.ack("buy", {});
  expect(asked.now).not.toBe("pending");
});

test("a reconnect message without a window is ignored, and repeated moves are delayed", async () => {
  const world = new World();
  const client = await world.connected();
  for (const after of [undefined, null, "now", [], ["x", {}], [-5, -5], 7]) await world.socket.say({ type: "reconnect", after });
  await world.pass(20_000);
  expect(world.sockets).toHaveLength(1);
  expect(client.state.name).toBe("connected");
  const loop = async (time: number) => {
    for (let passed = 0; passed < time; passed += 100) {
      const { socket } = world;
      if (!socket.closed) await socket.accept({ resume: { token: "t" } });
      await socket.say({ type: "reconnect", after: [0, 0] });
      await world.pass(100);
    }
  };
  await loop(2000);
  expect(world.sockets.length).toBeLessThanOrEqual(3);
  await loop(60_000);
  expect(world.sockets.length).toBeGreaterThan(4);
  expect(world.sockets.length).toBeLessThanOrEqual(9);
});

test.each([NaN, -1, Infinity, 2 ** 31, 1e308])("a duration of %s is respected as far as it makes sense", async (given) => {
  const world = new World();
  const retry = { baseDelay: given, maxDelay: given, backoffMultiplier: given };
  const client = await world.connected({ timeout: given, ttl: given, connectTimeout: given, retry, outbox: { count: NaN, bytes: NaN } });
  const asked = fate(client.request("buy", {}, { timeout: given, ttl: given }));
  await world.pass(0);
  if (given < 0) return expect(asked.now).toBe("timeout"); // sent at once, and not waited for
  await world.pass(5000);
  expect(asked.now).toBe("pending");
  await world.socket.ack("buy", {});
  expect(asked.now).not.toBe("pending");
  for (let n = 0; n < 3; n++) {
    const before = world.sockets.length;
    await world.socket.drop();
    world.chance = (n + 1) / 4;
    await world.pass(0);
    expect(world.sockets.length, "the next attempt does not follow at once").toBe(before);
    client.reconnect();
    await settle();
    await world.socket.accept();
  }
  expect(client.state.name).toBe("connected");
});

test("a policy without any delay does not cause fast retries", async () => {
  const world = new World();
  await world.connected({}, { retry: { base_delay: 0, max_delay: 0, backoff_multiplier: 1 } });
  for (let n = 1; n <= 5; n++) {
    await world.socket.drop();
    await world.pass(1000);
    expect(world.sockets).toHaveLength(n);
    await world.attempt();
    await world.socket.accept();
  }
});

test("a subscription that cannot be encoded fails, with and without a connection", async () => {
  const metadata = { number: 1n };
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  await expect(room.subscribe({ metadata })).rejects.toMatchObject({ kind: "invalid" });
  expect(room.state).toMatchObject({ name: "unsubscribed", error: { kind: "invalid" } });
  await world.lose();
  expect(world.socket.all("subscribe_channel")).toEqual([]);
  const early = world.client();
  const asked = fate(early.channel("room").subscribe({ metadata }));
  void early.connect();
  await settle();
  await world.socket.accept();
  expect(asked.now).toBe("invalid");
});

test("a temporary refusal without a valid delay does not cause fast retries", async () => {
  for (const retry_after of [-1, 0, NaN, 1e308]) {
    const world = new World();
    const client = await world.connected();
    void client.channel("room").subscribe().catch(() => {});
    await settle();
    await world.socket.refuse("subscribe_channel", "rate_limited", { temporary: true, details: { retry_after } });
    await world.pass(49);
    expect(world.socket.all("subscribe_channel")).toHaveLength(1);
  }
});

test("credentials with an invalid expiry are not renewed in a loop", async () => {
  const getToken = vi.fn(() => "token");
  const world = new World();
  await world.connected({ getToken }, { expires_at: "soon", heartbeat: { interval: 1e9, timeout: 1e9 } });
  await world.pass(60_000);
  expect(getToken).toHaveBeenCalledTimes(1);
});

describe("timers", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("a delay longer than the maximum of a timer is kept, and an infinite one never ends", () => {
    const [long, endless] = [vi.fn(), vi.fn()];
    defaultEnvironment.after(2 ** 32, long);
    const cancel = defaultEnvironment.after(Infinity, endless);
    vi.advanceTimersByTime(2 ** 32 - 1);
    expect(long).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(long).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(2 ** 34);
    expect(endless).not.toHaveBeenCalled();
    cancel();
    expect(vi.getTimerCount()).toBe(0);
  });
});

test("optional fields of the session that are null count as missing", async () => {
  const world = new World();
  const getToken = vi.fn(() => "token");
  const fields = ["resume", "heartbeat", "retry", "subscriptions", "expires_at"];
  const client = await world.connected({ getToken }, Object.fromEntries(fields.map((name) => [name, null])));
  expect(client.state.name).toBe("connected");
  await world.pass(20_000);
  expect(world.socket.heard, "no credentials are renewed").toEqual([]);
  await world.pass(5_000);
  expect(world.socket.heard).toMatchObject([{ type: "ping" }]);
});
