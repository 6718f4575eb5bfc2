// The client with unusual options, and with calls in an unusual order.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi, afterEach } from "vitest";
import { subscriber, message } from "./subscriber.js";
import { World, fate, settle } from "./world.js";
import { messages } from "../src/iterators.js";

afterEach(() => vi.unstubAllGlobals());
const unhandled: unknown[] = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

test("a state listener may call connect while the client closes", async () => {
  const world = new World();
  const client = await world.connected();
  let again: Promise<void> | undefined;
  client.onState((s) => { if (s.name === "closed") again ??= client.connect(); });
  client.close();
  const f = fate(again!);
  await settle();
  expect(f.now).toBe("pending");
  await world.socket.accept();
  expect(f.now).toBe("done");
});

test("close causes no unhandled rejection", async () => {
  unhandled.length = 0;
  const { client, room } = await subscriber();
  void room.publish("sent");
  void client.request("asked");
  void room.history();
  await settle();
  client.close();
  await new Promise((resolve) => setImmediate(resolve));
  const { length } = unhandled;
  unhandled.length = 0;
  expect(length).toBe(0);
});

test("close without a connection causes no unhandled rejection", async () => {
  unhandled.length = 0;
  const { client, room, world } = await subscriber();
  await world.socket.drop();
  void room.publish("sent");
  void client.request("asked");
  client.close();
  await new Promise((resolve) => setImmediate(resolve));
  const { length } = unhandled;
  unhandled.length = 0;
  expect(length).toBe(0);
});

test("pending presence requests cause no unhandled rejection on close", async () => {
  unhandled.length = 0;
  const { client, room } = await subscriber();
  void room.presence.update({});
  void room.presence.refresh();
  await settle();
  client.close();
  await new Promise((resolve) => setImmediate(resolve));
  const { length } = unhandled;
  unhandled.length = 0;
  expect(length).toBe(0);
});

test("a channel name has one object, even right after a garbage collection", async () => {
  const world = new World();
  const client = await world.connected();
  (() => { client.channel("x"); })();
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  await settle();
  gc();
  const a = client.channel("x");
  const heard: unknown[] = [];
  const b = client.channel("x");
  a.on("message", (m) => heard.push(m.content));
  void b.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "x", recoverable: false });
  await world.socket.say({ type: "message", channel: "x", content: 1, timestamp: 1 });
  expect([a === b, heard]).toEqual([true, [1]]);
});

test("the number of registrations does not grow", async () => {
  let count = 0;
  vi.stubGlobal("FinalizationRegistry", class { register() { count++; } });
  const world = new World();
  const client = await world.connected();
  const room = client.channel("x");
  for (let n = 0; n < 1000; n++) room.on("message", () => {})();
  expect(count).toBeLessThan(5);
});

test("a refused presence.update does not affect the next subscription", async () => {
  const { room, world } = await subscriber();
  const f = fate(room.presence.update({ big: "x".repeat(5000) }));
  await settle();
  await world.socket.refuse("update_presence", "limit_exceeded");
  expect(f.now).toBe("refused");
  await world.lose();
  expect(world.socket.last("subscribe_channel")["metadata"]).toEqual({ device: "phone" });
});

test("an iterator that returns before its first message leaves no listeners", async () => {
  let on = 0;
  const off = () => { on--; };
  const channel = { on: () => (on++, off), onState: () => (on++, off), history: () => Promise.reject() };
  const loop = messages(channel as never);
  await loop.return();
  expect(on).toBe(0);
});

test("no message is delivered after abort", async () => {
  const { room, world } = await subscriber();
  const controller = new AbortController();
  const loop = room.messages({ signal: controller.signal });
  await world.socket.say(message(11), message(12), message(13));
  expect((await loop.next()).value).toMatchObject({ offset: 11 });
  controller.abort("enough");
  await expect(loop.next()).rejects.toBe("enough");
});

test("the same listener can be added twice", async () => {
  const { room, world } = await subscriber();
  const heard: unknown[] = [];
  const listener = (m: { content: unknown }) => heard.push(m.content);
  const off = room.on("message", listener);
  room.on("message", listener);
  off();
  await world.socket.say(message(11));
  expect(heard).toEqual(["#11"]);
});

test("a channel that the server has ended has no members", async () => {
  const { room, world } = await subscriber();
  await world.socket.say({ type: "presence_state", channel: "room", users: { bo: { status: "online", metadata: {}, connections: [] } }, count: 1, offset: 1 });
  expect(room.presence.users.size).toBe(1);
  await world.socket.say({ type: "unsubscribed", channel: "room" });
  expect(room.state.name).toBe("unsubscribed");
  expect(room.presence.users.size).toBe(0);
});

test("the since position of a refused subscription is forgotten", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const f = fate(room.subscribe({ since: { epoch: "E", offset: 5 } }));
  await settle();
  await world.socket.refuse("subscribe_channel", "permission_denied");
  expect(f.now).toBe("refused");
  void room.subscribe({ since: { epoch: "F", offset: 9 } });
  await settle();
  expect(world.socket.last("subscribe_channel")["recover"]).toEqual({ epoch: "F", offset: 9 });
});

test("a closed client keeps no timers and listeners", async () => {
  const { client, room, world } = await subscriber();
  room.send("x");
  room.send("x", 1);
  void room.messages();
  void room.publish("x").catch(() => {});
  client.close();
  await settle();
  expect([world.timers, world.watchers]).toEqual([0, 0]);
});

test("a clock that was set back between two moves delays the second move only by the minimum interval", async () => {
  const world = new World();
  await world.connected();
  const window = { type: "reconnect", after: [0, 100], reason: "drain" };
  await world.socket.say(window);
  await world.pass(100);
  await world.socket.accept({ connection_id: "c-2" });
  world.setBack(3_600_000);
  const moved = world.socket;
  await moved.say(window);
  for (let second = 0; second < 10; second++) {
    await world.pass(1000);
    if (second % 4 === 0) await moved.say({ type: "pong" });
  }
  expect([moved.closed, world.sockets.length]).toEqual([undefined, 3]);
});
