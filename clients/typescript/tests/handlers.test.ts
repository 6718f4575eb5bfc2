// Handlers that close, reconnect, subscribe, unsubscribe and throw while the client calls them.

import { expect, test, vi } from "vitest";
import { type Client, type State, closeCodes } from "../src/index.js";
import { World, fate, settle } from "./world.js";

const start = { epoch: "E", offset: 10, recoverable: true };
const message = (offset: number) => ({ type: "message", channel: "room", content: `#${offset}`, timestamp: 1, offset });

/** Calls `act` once, in the handler of the first state of this name. */
function once(client: Client, name: State["name"], act: () => void): void {
  const off = client.onState((state) => {
    if (state.name !== name || ("retryAt" in state) !== (name === "reconnecting")) return;
    off();
    act();
  });
}

test.each(["connecting", "connected", "reconnecting"] as const)("closing in the listener of the state %s ends the client", async (name) => {
  const world = new World();
  const getToken = vi.fn(() => "token");
  const client = world.client({ getToken });
  void client.channel("room").subscribe().catch(() => {});
  once(client, name, () => client.close());
  void client.connect().catch(() => {});
  await settle();
  if (name !== "connecting") await world.socket.accept({ resume: { token: "old" }, expires_at: world.time + 60_000 });
  if (name === "reconnecting") await world.socket.drop();
  expect(client.state).toMatchObject({ name: "closed", code: 1000, reason: "" });
  expect(world.timers).toBe(0);
  expect(getToken).toHaveBeenCalledTimes(name === "connecting" ? 0 : 1);
  const before = world.sockets.length;
  await world.pass(60_000);
  expect(world.sockets).toHaveLength(before);
  void client.connect();
  await settle();
  expect(world.socket.protocols, "the session has ended, too").toEqual(["hauyna.v1.json", "hauyna.bearer.token"]);
});

test.each(["close", "reconnect"] as const)("a channel's listener may %s when the connection is lost", async (what) => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe().catch(() => {});
  await settle();
  await world.socket.ack("subscribe_channel", start);
  const off = room.onState(() => (off(), client[what]()));
  await world.socket.drop();
  expect(client.state).toMatchObject(what === "close" ? { name: "closed" } : { name: "reconnecting", attempt: 0 });
  await world.pass(5000);
  expect(world.sockets, "there is at most one attempt").toHaveLength(what === "close" ? 1 : 2);
  if (what === "close") expect(world.timers).toBe(0);
});

test("a client that is closed while it reconnects stays closed", async () => {
  const world = new World();
  const client = await world.connected();
  once(client, "reconnecting", () => client.close());
  client.reconnect();
  await world.pass(5000);
  expect(client.state.name).toBe("closed");
  expect(world.sockets).toHaveLength(1);
  expect(world.timers).toBe(0);
});

test("reconnecting in the listener of a delay leaves one attempt, with its own timeout", async () => {
  const world = new World();
  const client = await world.connected();
  once(client, "reconnecting", () => client.reconnect());
  await world.socket.drop();
  expect(world.sockets).toHaveLength(2);
  await world.socket.accept();
  await world.socket.say({ type: "reconnect", after: [9_900, 9_900], reason: "drain" });
  await world.pass(9_900);
  expect(world.sockets).toHaveLength(3);
  await world.pass(5_000);
  expect(world.socket.closed, "the timeout of an earlier attempt does not end a later one").toBeUndefined();
});

test("unsubscribing while messages are replayed stops the delivery", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const heard: unknown[] = [];
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", start);
  room.on("message", ({ offset }) => {
    heard.push(offset);
    void room.unsubscribe();
  });
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 10, missed: 2 });
  await world.socket.ack("history", { epoch: "E", offset: 12, messages: [message(11), message(12)] });
  await world.socket.say(message(13));
  expect(heard).toEqual([11]);
});

test("subscribing again in the listener of the server's unsubscribe creates a new subscription", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", start);
  let again = { now: "not asked" as unknown };
  room.onState(({ error }) => error && (again = fate(room.subscribe())));
  await world.socket.say({ type: "unsubscribed", channel: "room" });
  expect(again.now).toBe("pending");
  await world.socket.ack("subscribe_channel", start);
  expect(again.now).toMatchObject({ recoverable: true });
});

test("unsubscribing in the listener of a restored subscription reports no gap", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  const gaps: unknown[] = [];
  room.onGap((gap) => gaps.push(gap));
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", start);
  await world.lose();
  room.onState(({ name }) => name === "subscribed" && void room.unsubscribe());
  await world.socket.ack("subscribe_channel", { ...start, epoch: "F", recovered: false, reason: "epoch_changed" });
  expect(gaps).toEqual([]);
  expect(room.state.name).toBe("unsubscribed");
});

test("subscribing again in the listener of an unsubscribe sends the subscribe request afterwards", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", start);
  let again = { now: "not asked" as unknown };
  const off = room.onState(() => (off(), (again = fate(room.subscribe()))));
  void room.unsubscribe();
  await settle();
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel", "unsubscribe_channel", "subscribe_channel"]);
  expect(again.now).toBe("pending");
  await world.socket.ack("subscribe_channel", start);
  expect(again.now).toMatchObject({ recoverable: true });
});

test("unsubscribing and subscribing again in the listener of a subscription waits for the next confirmation", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe().catch(() => {});
  await settle();
  let again = { now: "not asked" as unknown };
  const off = room.onState(() => (off(), void room.unsubscribe(), (again = fate(room.subscribe()))));
  await world.socket.ack("subscribe_channel", start);
  expect(again.now).toBe("pending");
  await world.socket.ack("subscribe_channel", { ...start, offset: 12 });
  expect(again.now).toMatchObject({ position: { offset: 12 } });
});

test("a listener that an earlier listener has removed is not called", async () => {
  const world = new World();
  const client = await world.connected();
  const heard: string[] = [];
  client.on("note", () => (heard.push("first"), off()));
  const off = client.on("note", () => heard.push("second"));
  await world.socket.say({ type: "note" });
  expect(heard).toEqual(["first"]);
});

test("a listener that fails, now or later, is logged and does not affect the others", async () => {
  const world = new World();
  const failures: unknown[] = [];
  const logger = { debug() {}, info() {}, warn() {}, error: (_: string, fields?: object) => failures.push(fields) };
  const client = await world.connected({ logger });
  const heard: unknown[] = [];
  const now = new Error("now");
  const later = new Error("later");
  client.on("note", () => {
    throw now;
  });
  client.on("note", () => Promise.reject(later));
  client.on("note", ({ type }) => heard.push(type));
  await world.socket.say({ type: "note" });
  expect(heard).toEqual(["note"]);
  expect(failures).toEqual([{ error: now }, { error: later }]);
});

test("close closes the client whatever code and reason it is given", async () => {
  const world = new World();
  const client = await world.connected();
  world.socket.close = (code, reason) => {
    if (code === undefined) return void (world.socket.closed = { code, reason });
    throw new SyntaxError("as a browser does");
  };
  const answer = fate(client.request("open"));
  client.close(70_000, "x".repeat(200));
  await settle();
  expect(client.state).toMatchObject({ name: "closed", code: 70_000 });
  expect(answer.now).toBe("outcome_unknown");
  expect(world.socket.closed).toEqual({ code: undefined, reason: undefined });
  expect(world.timers).toBe(0);
});

test("a second close is not reported, and no page listener remains after a permanent close by the server", async () => {
  const world = new World();
  const client = await world.connected();
  const told: State[] = [];
  client.onState((state) => told.push(state));
  await world.socket.drop(closeCodes.revoked, "revoked");
  expect(world.watchers).toBe(0);
  client.close();
  client.close();
  expect(told).toMatchObject([{ name: "closed", code: 3505, reason: "revoked" }]);
});

test("the user is known when the listeners of the connected state are called", async () => {
  const world = new World();
  const client = world.client();
  const users: unknown[] = [];
  client.onState(({ name }) => name === "connected" && users.push(client.user));
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(users).toEqual(["ana"]);
});

test("close while the credentials are requested ends the attempt", async () => {
  const world = new World();
  const client: Client = world.client({
    getToken: () => {
      client.close(4500, "logged out");
      throw new Error("401");
    },
  });
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed", message: "logged out" });
  await world.pass(60_000);
  expect(client.state).toMatchObject({ name: "closed", code: 4500, reason: "logged out" });
  expect(world.timers).toBe(0);
  expect(world.sockets).toEqual([]);
});

test("a listener may connect at once when the attempts are used up, and keeps its channels", async () => {
  const world = new World();
  const client = await world.connected({}, { retry: { base_delay: 1, max_delay: 1, backoff_multiplier: 1, max_attempts: 0 } });
  void client.channel("room").subscribe().catch(() => {});
  await settle();
  await world.socket.ack("subscribe_channel", start);
  once(client, "closed", () => void client.connect());
  await world.socket.drop();
  expect(world.sockets).toHaveLength(2);
  await world.socket.accept();
  expect(client.state.name).toBe("connected");
  expect(world.socket.last("subscribe_channel")).toMatchObject({ channel: "room" });
  client.close();
  expect(world.timers).toBe(0);
  expect(world.watchers).toBe(0);
});

/** Returns a client that is about to resume a session with these channels, in this order. */
async function resuming(...names: string[]) {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  for (const name of names) {
    void client.channel(name).subscribe().catch(() => {});
    await settle();
    await world.socket.ack("subscribe_channel", { ...start, channel: name });
  }
  await world.socket.drop();
  await world.attempt();
  const subscriptions = names.map((channel) => ({ ...start, channel, recovered: true }));
  return { world, client, resume: () => world.socket.accept({ resumed: true, resume: { token: "u" }, subscriptions }) };
}

test("subscribing in the listener of a resumed channel sends one request, and resolves with its position", async () => {
  const { world, client, resume } = await resuming("room");
  const other = client.channel("other");
  client.channel("room").onState(({ name }) => name === "subscribed" && void other.subscribe());
  await resume();
  const asked = world.socket.all("subscribe_channel");
  expect(asked).toMatchObject([{ channel: "other" }]);
  await world.socket.say({ type: "ack", id: asked[0]?.["id"], data: { ...start, channel: "other" } });
  expect(other.state.name).toBe("subscribed");
  expect(other.position).toEqual({ epoch: "E", offset: 10 });
});

test.each(["close", "reconnect"] as const)("calling %s in the listener of a resumed channel restores no other channels on that connection", async (what) => {
  const { world, client, resume } = await resuming("room", "other");
  const off = client.channel("room").onState(({ name }) => name === "subscribed" && (off(), client[what]()));
  await resume();
  expect(client.channel("other").state.name, "there is no connection").toBe("subscribing");
  const answer = what === "close" ? undefined : fate(client.request("open"));
  if (what === "close") void client.connect();
  const later = answer ?? fate(client.request("open"));
  await settle();
  await world.socket.accept();
  for (const name of ["room", "other"]) {
    const asked = world.socket.all("subscribe_channel").find(({ channel }) => channel === name);
    await world.socket.say({ type: "ack", id: asked?.["id"], data: { ...start, channel: name } });
  }
  await world.socket.ack("open", { done: true });
  expect(later.now, "it was sent on the current connection").toEqual({ done: true });
});

test("an aborted request fails with the reason, and is not sent if it was still queued", async () => {
  const world = new World();
  const client = await world.connected();
  const controller = new AbortController();
  const { signal } = controller;
  const sent = fate(client.request("sent", {}, { signal }));
  await world.socket.drop();
  const second = fate(client.request("waiting", {}, { signal, repeatable: true }));
  controller.abort("enough");
  await settle();
  expect(second.now).toBe("enough");
  expect(sent.now).toBe("outcome_unknown");
  expect(fate(client.request("late", {}, { signal })).now).toBe("pending");
  await (await world.attempt()).accept();
  await settle();
  expect(world.socket.heard).toEqual([]);
});

test("requests that the application cancels cause no unhandled rejection", async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  process.on("unhandledRejection", note);
  const world = new World();
  const client = world.client();
  void client.connect();
  void client.channel("room").subscribe();
  client.close();
  const connected = await world.connected();
  void connected.channel("room").subscribe();
  void connected.channel("room").unsubscribe();
  void connected.request("anything", {}, { signal: AbortSignal.abort() });
  const controller = new AbortController();
  void connected.request("anything", {}, { signal: controller.signal });
  void connected.channel("other").subscribe({ signal: controller.signal });
  controller.abort();
  await world.pass(1000);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});
