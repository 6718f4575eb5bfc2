// Resuming a session, moving to another node, client requests, and messages outside of channels.

import { expect, test } from "vitest";
import type { Client, Gap, Logger } from "../src/index.js";
import { World, fate, settle } from "./world.js";

const start = { epoch: "E", offset: 10 };
const first = { resume: { token: "tok-1", window: 60_000 } };
const entry = { channel: "room", ...start, recoverable: true, recovered: true };

async function subscribed(world: World, session: object = first): Promise<Client> {
  const client = await world.connected({}, session);
  for (const name of ["room", "ticker"]) void client.channel(name).subscribe();
  await settle();
  const [room, ticker] = world.socket.all("subscribe_channel");
  await world.socket.say({ type: "ack", id: room?.["id"], data: { channel: "room", ...start, recoverable: true } });
  await world.socket.say({ type: "ack", id: ticker?.["id"], data: { channel: "ticker", recoverable: false } });
  return client;
}

test("the next socket sends the session token and the positions at once", async () => {
  const world = new World();
  const client = await subscribed(world);
  await world.socket.say({ type: "message", channel: "room", content: 1, timestamp: 1, offset: 11 });
  await world.socket.drop();
  await world.attempt();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json", "hauyna.resume.tok-1"]);
  expect(world.socket.heard).toEqual([]);
  await world.socket.open();
  expect(world.socket.heard).toEqual([{ type: "resume", positions: { room: { epoch: "E", offset: 11 } } }]);
  const gaps: Gap[] = [];
  client.onGap((gap) => gaps.push(gap));
  const session = { resumed: true, resume: { token: "tok-2" }, subscriptions: [entry, { channel: "ticker", recoverable: false }] };
  await world.socket.say({ type: "session", connection_id: "c-2", user: "ana", ...session });
  expect(world.socket.heard, "no subscribe request is sent").toHaveLength(1);
  expect(client.channel("room")).toMatchObject({ state: { name: "subscribed" }, position: { epoch: "E", offset: 11 } });
  expect(gaps).toMatchObject([{ channel: "ticker", reason: "not_recoverable" }]);
  await world.socket.drop();
  expect((await world.attempt()).protocols, "the token is a new one").toContain("hauyna.resume.tok-2");
});

test("an attempt that fails before its session keeps the token", async () => {
  const world = new World();
  await subscribed(world);
  await world.socket.drop();
  await (await world.attempt()).drop();
  expect((await world.attempt()).protocols).toContain("hauyna.resume.tok-1");
});

test("a session that resumes too late starts fresh, and every channel is recovered from its position", async () => {
  const world = new World();
  const client = await subscribed(world);
  await world.lose({ resumed: false, resume: { token: "tok-9" } });
  expect(world.socket.all("subscribe_channel")).toMatchObject([{ channel: "room", recover: start }, { channel: "ticker" }]);
  expect(world.socket.all("subscribe_channel")[1]).not.toHaveProperty("recover");
  await world.socket.drop();
  expect((await world.attempt()).protocols).toContain("hauyna.resume.tok-9");
  expect(client.state.name).toBe("reconnecting");
});

test("a server without sessions is handled like one whose sessions have always expired", async () => {
  const world = new World();
  await subscribed(world, {});
  const socket = await world.lose();
  expect(socket.protocols).toEqual(["hauyna.v1.json"]);
  expect(socket.heard[0]).toMatchObject({ type: "subscribe_channel", channel: "room", recover: start });
});

test("closing ends the session, and the next connection starts a new one", async () => {
  const world = new World();
  const client = await subscribed(world);
  client.close();
  void client.connect();
  await settle();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json"]);
  await world.socket.accept();
  expect(world.socket.last("subscribe_channel"), "the channels are still wanted").toBeDefined();
});

test("channels unsubscribed or subscribed while disconnected are updated on the resumed session", async () => {
  const world = new World();
  const client = await subscribed(world);
  await world.socket.drop();
  void client.channel("room").unsubscribe();
  void client.channel("new").subscribe();
  await world.attempt();
  await world.socket.accept({ ...first, resumed: true, subscriptions: [entry, { channel: "ticker", recoverable: false }] });
  expect(world.socket.heard.slice(1).map(({ type, channel }) => [type, channel])).toEqual([
    ["unsubscribe_channel", "room"],
    ["subscribe_channel", "new"],
  ]);
});

test("a resumed subscription whose position is unknown reports a gap with the server's reason", async () => {
  const world = new World();
  const client = await subscribed(world);
  const gaps: Gap[] = [];
  client.onGap((gap) => gaps.push(gap));
  const unknown = { channel: "ticker", epoch: "T", offset: 5, recoverable: true, recovered: false, reason: "unknown_position" };
  await world.lose({ ...first, resumed: true, subscriptions: [entry, unknown] });
  expect(gaps).toEqual([{ channel: "ticker", reason: "unknown_position", from: undefined, to: { epoch: "T", offset: 5 }, missed: undefined }]);
});

test("a reconnect message opens the next socket at a random moment while the old one works, and then moves", async () => {
  const world = new World();
  world.chance = 0.25;
  const client = await subscribed(world);
  const [old] = world.sockets;
  const states: string[] = [];
  client.onState(({ name }) => states.push(name));
  await old?.say({ type: "reconnect", after: [1000, 9000], reason: "drain" });
  await world.pass(2999);
  expect(world.sockets).toHaveLength(1);
  const open = fate(client.request("open"));
  await world.pass(1);
  expect(world.sockets, "pending answers arrive first").toHaveLength(1);
  const waits = fate(client.channel("room").publish("waits"));
  expect(old?.all("channel_message")).toEqual([]);
  await old?.ack("open");
  expect(open.now).toBe("done");
  expect(world.sockets).toHaveLength(2);
  await old?.say({ type: "message", channel: "room", content: 1, timestamp: 1, offset: 11 });
  expect(client.channel("room").position?.offset).toBe(11);
  await world.socket.open();
  expect(world.socket.heard).toMatchObject([{ type: "resume" }]);
  const session = { resumed: true, resume: { token: "tok-2" }, subscriptions: [entry, { channel: "ticker", recoverable: false }] };
  await world.socket.say({ type: "session", connection_id: "c-2", user: "ana", ...session });
  expect(states).toEqual(["connected"]);
  expect(world.socket.heard.slice(1)).toMatchObject([{ type: "channel_message", content: "waits" }]);
  await old?.drop(3013, "replaced");
  expect(client.state).toMatchObject({ name: "connected", session: { connectionId: "c-2" } });
  await world.socket.ack("channel_message");
  expect(waits.now).toBe("done");
});

test("a slow answer does not delay a move", async () => {
  const world = new World();
  const client = await subscribed(world);
  const slow = fate(client.request("slow", {}, { timeout: 600_000 }));
  const [old] = world.sockets;
  await old?.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(1999);
  expect(world.sockets).toHaveLength(1);
  await world.pass(1);
  expect(world.sockets).toHaveLength(2);
  await old?.ack("slow");
  expect(slow.now).toBe("done");
  await world.pass(100);
  expect(world.sockets).toHaveLength(2);
});

test("a failed move keeps the old connection, and queued requests are sent on it", async () => {
  const world = new World();
  const client = await subscribed(world);
  const [old] = world.sockets;
  await old?.say({ type: "reconnect", after: [0, 1000], reason: "drain" });
  await world.pass(500);
  expect(world.sockets).toHaveLength(2);
  void client.request("waits").catch(() => {});
  await world.socket.drop(1006);
  expect(client.state).toMatchObject({ name: "connected", session: { connectionId: "c-1" } });
  expect(old?.last("waits")).toBeDefined();
  await old?.drop(3001, "drain");
  expect(client.state).toMatchObject({ name: "reconnecting", attempt: 1, code: 3001 });
});

test("a move to a node without the session ends it on the old one, and subscribes again", async () => {
  const world = new World();
  await subscribed(world);
  await world.socket.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(0);
  await world.socket.accept({ resumed: false });
  expect(world.sockets[0]?.closed?.code).toBe(1000);
  expect(world.socket.last("subscribe_channel")).toBeDefined();
});

test("client requests are answered by name, and an error of a handler becomes the refusal", async () => {
  const world = new World();
  const client = await world.connected();
  client.onRequest("confirm", async (data) => ({ said: data }));
  const off = client.onRequest("fail", () => {
    throw new Error("not now");
  });
  client.onRequest("nothing", () => undefined);
  await world.socket.say({ type: "request", id: "q-1", event: "confirm", data: { question: "?" } });
  await world.socket.say({ type: "request", id: "q-2", event: "fail", data: null });
  await world.socket.say({ type: "request", id: "q-3", event: "unknown", data: null });
  await world.socket.say({ type: "request", id: "q-4", event: "nothing", data: null });
  off();
  await world.socket.say({ type: "request", id: "q-5", event: "fail", data: null });
  expect(world.socket.heard).toEqual([
    { type: "ack", id: "q-1", data: { said: { question: "?" } } },
    { type: "error", id: "q-2", message: "not now" },
    { type: "error", id: "q-3", message: "nobody answers this" },
    { type: "ack", id: "q-4", data: null },
    { type: "error", id: "q-5", message: "nobody answers this" },
  ]);
});

test("a client request is answered on the connection that sent it, or not at all", async () => {
  const world = new World();
  const client = await world.connected();
  let answer: (value: unknown) => void = () => {};
  client.onRequest("slow", () => new Promise((resolve) => (answer = resolve)));
  await world.socket.say({ type: "request", id: "q-1", event: "slow", data: null });
  await world.lose();
  answer("late");
  await settle();
  expect(world.sockets.flatMap((socket) => socket.all("ack"))).toEqual([]);
});

test("messages outside of channels reach the listeners of their type, and errors the error listeners", async () => {
  const world = new World();
  const client = await world.connected();
  const heard: unknown[] = [];
  client.on("private", ({ from, message }) => heard.push([from, message]));
  client.on("welcome", (message) => heard.push(message["motd"]));
  client.onError(({ type }) => heard.push(type));
  await world.socket.say({ type: "private", from: "bob", message: "psst", timestamp: 1, offset: 1 });
  await world.socket.say({ type: "welcome", motd: "hi" }, { type: "nobody_knows" });
  await world.socket.say({ type: "error", error_type: "parse_error", message: "?", timestamp: 1, temporary: false });
  expect(heard).toEqual([["bob", "psst"], "hi", "parse_error"]);
});

test("tokens are never logged", async () => {
  const lines: string[] = [];
  const write = (message: string, fields?: object) => lines.push(message + JSON.stringify(fields));
  const logger: Logger = { debug: write, info: write, warn: write, error: write, logsMessages: true };
  const world = new World();
  const client = await world.connected({ logger, getToken: () => "secret-bearer" }, { resume: { token: "secret-resume" } });
  void client.channel("room").subscribe({ getToken: () => "secret-room" });
  await world.lose({ resumed: true, resume: { token: "secret-next" } });
  client.close();
  expect(lines.length).toBeGreaterThan(2);
  expect(lines.join()).not.toContain("secret");
});

test("each message is logged by its first fields if the logger asks for it", async () => {
  const lines: unknown[] = [];
  const debug = (message: string, fields?: object) => lines.push([message, fields]);
  const logger: Logger = { debug, info() {}, warn() {}, error() {} };
  for (const logsMessages of [false, true]) {
    const world = new World();
    const client = await world.connected({ logger: { ...logger, logsMessages } });
    lines.length = 0;
    client.request("order", { secret: 1 }).catch(() => {});
    await world.socket.say({ type: "message", channel: "room", offset: 7, content: "psst" }, { type: "own", id: { content: "psst" }, channel: "x".repeat(65) });
    client.close();
    const heads = lines.filter(([message]: any) => message === "sent" || message === "received");
    const sent = world.socket.last("order");
    expect(heads).toEqual(
      logsMessages
        ? [
            ["sent", { type: "order", id: sent["id"] }],
            ["received", { type: "message", channel: "room", offset: 7 }],
            ["received", { type: "own", channel: "x".repeat(64) }],
          ]
        : [],
    );
  }
});

test("an application message is never treated as an event of the client", async () => {
  const world = new World();
  const client = await world.connected();
  const told: unknown[] = [];
  client.onState((state) => told.push(state));
  client.onGap((gap) => told.push(gap));
  client.onError((error) => told.push(error));
  await world.socket.say(...[" state", "state", " gap", "gap", " error"].map((type) => ({ type, name: "closed" })));
  expect(told).toEqual([]);
});

test("a move whose credentials are late is cancelled and leaves nothing", async () => {
  const world = new World();
  const tokens: ((token: string) => void)[] = [];
  const client = world.client({ getToken: () => new Promise((resolve) => tokens.push(resolve)) });
  void client.connect();
  await settle();
  tokens[0]?.("t1");
  await settle();
  await world.socket.accept({ heartbeat: { interval: 1e9, timeout: 1e9 } });
  await world.socket.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(10_000);
  expect(tokens).toHaveLength(2);
  tokens[1]?.("t2");
  await settle();
  expect(world.sockets).toHaveLength(1);
  expect(client.state.name).toBe("connected");
});

test("a second reconnect window replaces the first, and queued requests are sent meanwhile", async () => {
  const world = new World();
  const client = await subscribed(world);
  await world.socket.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(0);
  expect(world.sockets).toHaveLength(2);
  const [old, next] = world.sockets;
  void client.request("waits").catch(() => {});
  expect(old?.all("waits")).toEqual([]);
  await old?.say({ type: "reconnect", after: [20_000, 20_000], reason: "drain" });
  expect(next?.closed).toBeDefined();
  expect(old?.all("waits")).toHaveLength(1);
  await old?.ack("waits");
  await world.pass(20_000);
  expect(world.sockets).toHaveLength(3);
});

test("queued requests wait for the end of a move, even while subscriptions are restored", async () => {
  const world = new World();
  const client = world.client();
  const room = client.channel("room");
  void room.subscribe();
  void client.connect();
  await settle();
  await world.socket.accept({ heartbeat: { interval: 1e9, timeout: 1e9 } });
  void client.request("waits").catch(() => {});
  const [old] = world.sockets;
  await old?.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(0);
  await old?.ack("subscribe_channel", entry);
  expect(world.sockets).toHaveLength(2);
  expect(old?.all("waits")).toEqual([]);
  await world.socket.accept({ resumed: false });
  await world.socket.ack("subscribe_channel", entry);
  expect(world.socket.all("waits")).toHaveLength(1);
});

test("a token that no socket accepts ends the attempts, and appears neither in the log nor in the state", async () => {
  const lines: string[] = [];
  const write = (message: string, fields?: object) => lines.push(message + JSON.stringify(fields));
  class Fussy {
    constructor(_: string, protocols: string[]) {
      throw new SyntaxError(`The subprotocol '${protocols[1]}' is invalid.`);
    }
  }
  const client = new World().client({
    WebSocket: Fussy as never,
    getToken: () => "secret/token=",
    logger: { debug: write, info: write, warn: write, error: write },
  });
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed" });
  expect(client.state).toMatchObject({ name: "closed", code: 3501 });
  expect(lines.join() + JSON.stringify(client.state)).not.toContain("secret");
});

test.each([3013, 3001, 1006])("the old connection of a move may end (%s) before the session is on the new one", async (code) => {
  const world = new World();
  const client = await subscribed(world);
  const states: string[] = [];
  client.onState(({ name }) => states.push(name));
  const [old] = world.sockets;
  await old?.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(0);
  await world.socket.open();
  void client.request("waits").catch(() => {});
  await old?.drop(code);
  const session = { resumed: true, resume: { token: "tok-2" }, subscriptions: [entry, { channel: "ticker", recoverable: false }] };
  await world.socket.say({ type: "session", connection_id: "c-2", user: "ana", ...session });
  expect(world.sockets, "the socket that has the session is not closed").toHaveLength(2);
  expect(client.state).toMatchObject({ name: "connected", session: { connectionId: "c-2" } });
  expect(world.socket.all("waits")).toHaveLength(1);
  expect(states, "no connection loss is reported").toEqual(code === 3013 ? ["connected"] : ["reconnecting", "connected"]);
});

test("a move whose old and new connection end counts as a failed attempt", async () => {
  const world = new World();
  const client = await subscribed(world);
  const [old] = world.sockets;
  await old?.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(0);
  await old?.drop(3013);
  await world.socket.drop();
  expect(client.state).toMatchObject({ name: "reconnecting", attempt: 1 });
  await (await world.attempt()).accept();
  expect(client.state.name).toBe("connected");
});

test("the end of an earlier subscription does not end the requested one", async () => {
  const world = new World();
  const client = await subscribed(world);
  const room = client.channel("room");
  void room.unsubscribe();
  const again = fate(room.subscribe());
  await settle();
  await world.socket.say({ type: "unsubscribed", channel: "room" });
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  expect(again.now).toMatchObject({ recoverable: true });
  expect(room.state.name).toBe("subscribed");
});

test("a channel and a user may have any name", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const odd = client.channel("__proto__");
  void odd.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { ...start, channel: "__proto__", recoverable: true });
  const users = (name: string) => JSON.parse(`{"${name}":{"status":"online","metadata":{},"connections":[]}}`);
  await world.socket.say({ type: "presence_state", channel: "__proto__", count: 0, users: {}, offset: 1 });
  void odd.presence.refresh();
  await settle();
  await world.socket.ack("presence", { count: 2, users: users("ana"), offset: 3, next: "ana" });
  await world.socket.ack("presence", { count: 2, users: users("__proto__"), offset: 3 });
  expect([...odd.presence.users.keys()]).toEqual(["ana", "__proto__"]);
  await world.socket.drop();
  await world.attempt();
  await world.socket.open();
  expect(JSON.stringify(world.socket.last("resume")["positions"])).toBe(`{"__proto__":${JSON.stringify(start)}}`);
});

test("messages that the old socket received during a move are replayed without a history request", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const room = client.channel("room");
  const heard: unknown[] = [];
  room.on("message", ({ offset }) => heard.push(offset));
  void room.subscribe();
  await settle();
  const message = (offset: number) => ({ type: "message", channel: "room", content: "", timestamp: 1, offset });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 10, recoverable: true });
  const old = world.socket;
  await old.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(1);
  await world.socket.open();
  await old.say(message(11), message(12));
  const subscriptions = [{ channel: "room", epoch: "E", offset: 12, recoverable: true, recovered: true }];
  await world.socket.say({ type: "session", connection_id: "c-2", user: "ana", resumed: true, resume: { token: "u" }, subscriptions });
  await world.socket.say(message(11), message(12), message(13));
  expect(heard).toEqual([11, 12, 13]);
  expect(world.socket.all("history")).toEqual([]);
});

test("a session is not resumed if the server does not accept a `resume` of this size", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  void client.channel("room:1").subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
  await world.socket.drop();
  await world.attempt();
  await world.socket.open();
  expect(world.socket.all("resume")).toHaveLength(1);
  await world.socket.drop(1009);
  await world.attempt();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json"]);
  await world.socket.accept();
  expect(world.socket.last("subscribe_channel")["recover"]).toEqual({ epoch: "E", offset: 7 });
});

test("a `resume` that is too large for the connection ends no subscription if the server answers before reading it", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const names = ["a", "b", "c"].map((letter) => letter.repeat(200));
  for (const name of names) {
    void client.channel(name).subscribe();
    await settle();
    await world.socket.ack("subscribe_channel", { channel: name, recoverable: true, epoch: "E", offset: 7 });
  }
  await world.lose({ resume: { token: "tok-2" } });
  expect(world.socket.heard.map(({ type }) => type)).toEqual(["resume", ...names.map(() => "subscribe_channel")]);
  await world.socket.drop(1009);
  await world.attempt();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json"]);
  await world.socket.accept({ resume: { token: "tok-3" } });
  const recover = { epoch: "E", offset: 7 };
  expect(world.socket.all("subscribe_channel")).toMatchObject(names.map((channel) => ({ channel, recover })));
  // What is too large on a connection that began without a `resume` is a request again.
  const large = fate(client.request("large", { text: "x".repeat(500) }));
  await world.socket.say(...world.socket.all("subscribe_channel").map(({ id, channel }) => ({ type: "ack", id, data: { channel, recoverable: true, epoch: "E", offset: 7, recovered: true } })));
  await world.socket.drop(1009);
  expect(large.now).toBe("refused");
  await world.attempt();
  expect(world.socket.protocols).toContain("hauyna.resume.tok-3");
});

test("a `resume` that is too large and late fails no request of the session that the server has resumed without it", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  const name = "a".repeat(200);
  void client.channel(name).subscribe();
  await settle();
  const entry = { channel: name, recoverable: true, epoch: "E", offset: 7 };
  await world.socket.ack("subscribe_channel", entry);
  const subscriptions = [{ ...entry, recovered: false, reason: "unknown_position" }];
  await world.lose({ resumed: true, resume: { token: "tok-2" }, subscriptions });
  const small = fate(client.request("small", {}, { repeatable: true }));
  await settle();
  await world.socket.drop(1009);
  expect(small.now).toBe("pending");
  await world.attempt();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json"]);
});

test("a connection that ended with 1009 and without pending requests is resumed", async () => {
  const world = new World();
  await world.connected({}, { resume: { token: "tok-1" } });
  await world.socket.drop(1009);
  await world.attempt();
  expect(world.socket.protocols).toContain("hauyna.resume.tok-1");
});

test("a client that closes during a move sends the close code on both sockets", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "tok-1" } });
  await world.socket.say({ type: "reconnect", after: [0, 0], reason: "drain" });
  await world.pass(10);
  await world.socket.open();
  client.close();
  expect(world.sockets.map(({ closed }) => closed?.code)).toEqual([1000, 1000]);
});

test("an unsubscribe request that the server refuses temporarily is repeated until it succeeds", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  room.on("message", ({ offset }) => heard.push(offset));
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
  void room.unsubscribe();
  await world.socket.refuse("unsubscribe_channel", "rate_limited", { temporary: true, details: { retry_after: 100 } });
  await world.pass(150);
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
  await world.socket.refuse("unsubscribe_channel", "not_subscribed");
  // The server's application may subscribe this client again.
  await world.socket.say({ type: "subscribed", channel: "room:1", recoverable: true, epoch: "E", offset: 8 });
  await world.socket.say({ type: "message", channel: "room:1", content: 1, timestamp: 1, offset: 9 });
  expect(heard).toEqual([9]);
  await world.pass(5000);
  expect(world.socket.all("unsubscribe_channel")).toHaveLength(2);
});

test("a subscription that the server's application creates again continues, with a gap in its place", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  const changes: unknown[] = [];
  const loop = (async () => {
    for await (const { content } of room.messages()) heard.push(content);
  })();
  room.onGap(({ reason }) => heard.push(reason));
  room.onState(({ name }) => changes.push(name));
  await world.socket.say({ type: "subscribed", channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
  await world.socket.say({ type: "message", channel: "room:1", content: "before", timestamp: 1, offset: 8 });
  await world.lose({ resumed: false });
  // `on_open` of the server's application runs after the session has begun.
  await world.socket.say({ type: "subscribed", channel: "room:1", recoverable: true, epoch: "F", offset: 0 });
  await world.socket.say({ type: "message", channel: "room:1", content: "after", timestamp: 1, offset: 1 });
  expect(heard).toEqual(["before", "epoch_changed", "after"]);
  expect(changes).toEqual(["subscribed", "subscribing", "subscribed"]);
  await world.pass(15_000);
  expect([room.state.name, fate(loop).now]).toEqual(["subscribed", "pending"]);
});

test("a subscription that the server's application does not create again ends with an error", async () => {
  for (const failed of [[], [{ channel: "room:1", reason: "permission_denied" }]]) {
    const world = new World();
    const client = await world.connected();
    const room = client.channel("room:1");
    await world.socket.say({ type: "subscribed", channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
    const loop = fate(room.messages().next());
    await world.lose({ resumed: failed.length > 0, failed });
    await world.pass(failed.length > 0 ? 0 : 10_000);
    expect(room.state).toMatchObject({ name: "unsubscribed", error: { kind: "refused" } });
    await settle();
    expect(loop.now).toBe("refused");
  }
});

test("the application may subscribe while the server's application has not done so again", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room:1");
  const gaps: Gap[] = [];
  room.onGap((gap) => gaps.push(gap));
  await world.socket.say({ type: "subscribed", channel: "room:1", recoverable: true, epoch: "E", offset: 7 });
  await world.lose({ resumed: false });
  const share = fate(room.subscribe());
  await settle();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ channel: "room:1", recover: { epoch: "E", offset: 7 } });
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, epoch: "E", offset: 9, recovered: true });
  await world.pass(15_000);
  expect([share.now === "pending", room.state.name, gaps]).toEqual([false, "subscribed", []]);
});
