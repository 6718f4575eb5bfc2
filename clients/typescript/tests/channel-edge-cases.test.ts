// Channels and their events under unusual conditions.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi, afterEach } from "vitest";
import { start, subscriber, message } from "./subscriber.js";
import { World, fate, settle } from "./world.js";

afterEach(() => vi.unstubAllGlobals());
setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

test("aborting in a state listener closes a client that is connecting", async () => {
  const world = new World();
  const client = world.client();
  const c = new AbortController();
  client.onState(({ name }) => name === "connecting" && c.abort("enough"));
  const f = fate(client.connect({ signal: c.signal }));
  await settle();
  expect([f.now, client.state.name]).toEqual(["enough", "closed"]);
});

test("the client works in a runtime that has WeakRef but no FinalizationRegistry", async () => {
  vi.stubGlobal("FinalizationRegistry", undefined);
  const world = new World();
  const client = await world.connected();
  (() => { client.channel("x"); })();
  await settle(); gc(); await settle(); await new Promise((resolve) => setImmediate(resolve));
  const heard: unknown[] = [];
  client.channel("x").on("message", (m) => heard.push(m.content));
  await settle();
  expect(client.channel("x")).toBe(client.channel("x"));
  const room = client.channel("x");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "x", recoverable: false });
  await world.socket.say({ type: "message", channel: "x", content: 1, timestamp: 1 });
  expect(heard).toEqual([1]);
});

test("a channel name has one object in a runtime without FinalizationRegistry", async () => {
  vi.stubGlobal("FinalizationRegistry", undefined);
  const world = new World();
  const client = await world.connected();
  (() => { client.channel("x"); })();
  await settle(); gc(); await settle();
  const a = client.channel("x");
  const b = client.channel("x");
  expect(a).toBe(b);
});

test("a client event may have the name of an object's member", async () => {
  const { room, world } = await subscriber({ ...start, recoverable: true, client_events: { cursor: 1 } });
  for (let n = 0; n < 20; n++) { room.send("constructor", n); await world.pass(1); }
  expect(world.socket.all("client_event").length).toBeLessThan(3);
});

test("a refused unsubscribe does not end the subscription that a listener has requested since", async () => {
  const { room, world } = await subscriber();
  const end = room.onState(({ name }) => {
    if (name !== "unsubscribed") return;
    end();
    void room.subscribe();
  });
  void room.unsubscribe();
  await settle();
  await world.socket.refuse("unsubscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 1000 } });
  await world.pass(1000);
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.pass(5000);
  expect([room.state.name, world.socket.all("unsubscribe_channel").length]).toEqual(["subscribed", 1]);
});

test("a closed client keeps no timer for client events", async () => {
  const { room, client, world } = await subscriber({ ...start, recoverable: true, client_events: { cursor: 1 } });
  room.send("cursor");
  client.close();
  await settle();
  expect(world.timers).toBe(0);
});

test("a queued client event is not sent on a later subscription", async () => {
  const { room, world } = await subscriber({ ...start, recoverable: true, client_events: { cursor: 0.1 } });
  room.send("cursor", 1); room.send("cursor", 2);
  void room.unsubscribe();
  await settle();
  await world.socket.ack("unsubscribe_channel");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await world.pass(20_000);
  expect(world.socket.all("client_event").map((m) => m["data"])).toEqual([1]);
});

class Signal {
  aborted = false; reason: unknown; listeners = new Set<() => void>(); 
  addEventListener(_: "abort", l: () => void) { this.listeners.add(l); }
  removeEventListener(_: "abort", l: () => void) { this.listeners.delete(l); }
}
test("listeners of signals are removed", async () => {
  const { room, world, client } = await subscriber();
  const s = new Signal();
  const share = await room.subscribe({ signal: s });
  await share.unsubscribe();
  await room.subscribe({ signal: s });
  const p = room.publish("x", { signal: s }); await settle(); await world.socket.ack("channel_message", { epoch: "E", offset: 11 }); await p;
  const h = room.history({ signal: s }); h.catch(() => {}); await settle(); await world.socket.refuse("history", "x");
  await room.messages({ signal: s }).return();
  await client.connect({ signal: s });
  void room.unsubscribe();
  await settle();
  void room.subscribe({ signal: s }).catch(() => {});
  await settle();
  await world.socket.refuse("subscribe_channel", "permission_denied");
  expect(s.listeners.size).toBe(0);
});

test("a share may end in the state listener", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const c = new AbortController();
  room.onState(({ name }) => name === "subscribed" && c.abort("x"));
  const f = fate(room.subscribe({ signal: c.signal }));
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect([f.now, room.state.name, world.socket.all("unsubscribe_channel").length]).toEqual(["x", "unsubscribed", 1]);
});

test("a listener may subscribe again when the subscription ends", async () => {
  const { room, world } = await subscriber();
  let n = 0;
  room.onState(({ name }) => { if (name === "unsubscribed" && n++ < 1) void room.subscribe(); });
  const done = fate(room.unsubscribe());
  await settle();
  const u = world.socket.all("unsubscribe_channel").length;
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  if (u) await world.socket.ack("unsubscribe_channel");
  await world.socket.say(message(11));
  expect([room.state.name, room.position?.offset, done.now, u, world.socket.heard.map((m) => m.type)]).toEqual(["subscribed", 11, "done", 1, ["subscribe_channel", "unsubscribe_channel", "subscribe_channel"]]);
});

test("a move restores the queued subscriptions", async () => {
  const world = new World();
  const client = await world.connected();
  const all = [];
  for (let at = 0; at < 40; at++) all.push(fate(client.channel(`room-${at}`).subscribe()));
  await settle();
  await world.socket.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(3000);
  await world.socket.accept();
  for (let round = 0; round < 5; round++) {
    await world.socket.say(...world.socket.all("subscribe_channel").map(({ id, channel }) => ({ type: "ack", id, data: { channel, recoverable: false } })));
  }
  expect([world.sockets.length, all.filter(({ now }) => now === "pending").length, world.socket.all("subscribe_channel").length]).toEqual([2, 0, 40]);
});

test("a publication without an echo that is replayed before its answer is delivered once", async () => {
  const { room, world, heard } = await subscriber();
  void room.publish("mine", { echo: false }).catch(() => {});
  await settle();
  await world.lose({});
  // The server answers `subscribe` with a replay that contains this client's own message.
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 12, recoverable: true, recovered: true });
  await world.socket.say(message(11), message(12));
  await world.pass(100);
  await world.socket.ack("channel_message", { epoch: "E", offset: 11 });
  await world.socket.say(message(13));
  expect(heard).toEqual([11, 12, 13]);
});

test("the getters of a client work through a proxy", async () => {
  const world = new World();
  const client = new Proxy(await world.connected(), {});
  const room = new Proxy(client.channel("x"), {});
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "x", recoverable: false });
  expect(room.state.name).toBe("subscribed");
  expect(room.presence.users.size).toBe(0);
});

test("a presence update is sent again if its answer was lost", async () => {
  const { room, world } = await subscriber();
  const f = fate(room.presence.update({ mood: 1 }));
  await settle();
  await world.lose();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true, recovered: true });
  await world.socket.ack("update_presence");
  expect(f.now).toBe("done");
});
