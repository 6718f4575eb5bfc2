// Servers that say anything: the client reads it, ignores it, or gives the connection up and comes back. It never throws
// into the runtime, never leaves a rejection to nobody, and never turns in circles.

import { afterEach, beforeEach, expect, test } from "vitest";
import { type Codec, json, msgpack } from "../src/index.js";
import { delay } from "../src/backoff.js";
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

/** Numbers that look random, and are the same in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % sides;
  };
}

const STRANGE = [null, undefined, true, 0, -1, 1.5, 2 ** 53, 1e308, "", "room", "x", [], [null], {}, { epoch: "E" }, { room: null }, [1, 2]];

/** The same value with something strange somewhere in it. */
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
] as [string, Codec][])("whatever a server says in %s, the client lives on", async (_, codec) => {
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
  return typeof written === "string" ? written : written.buffer;
}

test("bytes that are no message end the connection, or nothing", async () => {
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
  ["a move without a window", { type: "reconnect", reason: "drain" }],
  ["presence of nobody", { type: "presence_state", channel: "room", count: 1, offset: 1 }],
  ["a session of other subscriptions", { type: "session", subscriptions: 5 }],
])("%s is unreadable: the connection ends with a code of the client's, and the next one is tried", async (_, message) => {
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

test("a list of presence that is none leaves the one that is known", async () => {
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

test("terms that are no numbers do not make the client hurry", async () => {
  const nothing = {} as never;
  expect(delay(nothing, 1, 0.5)).toBe(15_000);
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
