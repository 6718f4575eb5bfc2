// The fake server with the real client: everything that the test of an application does with it.

import { afterEach, expect, test, vi } from "vitest";
import { type Client, msgpack } from "../src/index.js";
import { FakeServer, Refusal } from "../src/testing.js";

interface Chat {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  clientRequests: { confirm: { data: { text: string }; reply: boolean } };
  messages: { welcome: { motd: string } };
  channels: { "room:{id}": { message: { text: string }; renamed: { name: string } } };
  clientEvents: { "room:{id}": { cursor: { x: number } } };
}

afterEach(() => void vi.useRealTimers());

/** Returns a client of ana that is subscribed to `room:1`, with the messages that it receives. */
async function inRoom(server: FakeServer<Chat>, user = "ana"): Promise<{ client: Client<Chat>; heard: string[] }> {
  const client = await server.connected({ user });
  const heard: string[] = [];
  client.channel("room:1").on("message", (message) => heard.push(`${message.user ?? "app"}: ${message.content.text}`));
  await client.channel("room:1").subscribe();
  return { client, heard };
}

test.each([undefined, msgpack])("publications of others arrive, and those of the client are recorded", async (codec) => {
  const server = new FakeServer<Chat>();
  const client = await server.connected({ user: "ana", codec });
  const room = client.channel("room:1");
  const heard: string[] = [];
  room.on("message", ({ content, offset }) => heard.push(`${offset} ${content.text}`));
  room.on("renamed", ({ name }) => heard.push(name));
  await room.subscribe();
  await server.channel("room:1").publish({ text: "hi" }, { user: "bob" });
  expect(await room.publish({ text: "hello" })).toEqual({ epoch: "epoch-1", offset: 2 });
  await server.channel("room:1").tell({ type: "renamed", name: "lobby" });
  expect(heard).toEqual(["1 hi", "2 hello", "lobby"]);
  expect(server.channel("room:1").messages).toMatchObject([{ user: "bob" }, { user: "ana", content: { text: "hello" } }, { type: "renamed" }]);
  expect(server.requests("channel_message")).toMatchObject([{ channel: "room:1", content: { text: "hello" } }]);
  expect(server.users).toEqual(["ana"]);
});

test("a connection loss is recovered without losses, duplicates or leaves", async () => {
  const server = new FakeServer<Chat>();
  const { client, heard } = await inRoom(server);
  const { client: bob } = await inRoom(server, "bob");
  const left = vi.fn();
  bob.channel("room:1").presence.on("leave", left);
  await server.channel("room:1").publish({ text: "1" });
  await server.cut();
  expect(client.state.name).toBe("reconnecting");
  expect(server.users).toEqual([]);
  const waiting = client.channel("room:1").publish({ text: "2" });
  await server.pass(20_000);
  expect(client.state.name).toBe("reconnecting");
  await server.channel("room:1").publish({ text: "while away" });
  await server.restore();
  await waiting;
  expect(client.state).toMatchObject({ name: "connected", session: { resumed: true } });
  await server.channel("room:1").publish({ text: "3" });
  expect(heard).toEqual(["app: 1", "app: while away", "ana: 2", "app: 3"]);
  expect(left).not.toHaveBeenCalled();
  expect([...bob.channel("room:1").presence.users.values()]).toMatchObject([{ user: "ana", connections: 1 }, { user: "bob", connections: 1 }]);
});

test("the client's retries find a server that returns later", async () => {
  const server = new FakeServer();
  const client = await server.connected();
  await server.drop(3000, "restart");
  expect(client.state).toMatchObject({ name: "reconnecting", code: 3000 });
  await server.pass(5_000);
  expect(client.state.name).toBe("connected");
  await server.drop(3503);
  expect(client.state).toMatchObject({ name: "closed", code: 3503 });
});

test.each([0, 1, 2, 3, 4, 6, 8])("a publication is made once if the connection is lost after %i turns", async (turns) => {
  const server = new FakeServer<Chat>();
  const { client, heard } = await inRoom(server);
  const published = client.channel("room:1").publish({ text: "once" });
  for (let turn = 0; turn < turns; turn++) await undefined;
  await server.cut();
  await server.restore();
  expect(await published).toEqual({ epoch: "epoch-1", offset: 1 });
  expect(heard).toEqual(["ana: once"]);
  expect(server.channel("room:1").messages).toHaveLength(1);
});

test("refusals reach the caller, once or until they are removed", async () => {
  const server = new FakeServer<Chat>();
  const client = await server.connected();
  server.refuse("subscribe_channel", new Refusal("permission_denied", "members only"));
  const room = client.channel("room:1");
  await expect(room.subscribe()).rejects.toMatchObject({ kind: "refused", type: "permission_denied", message: "members only" });
  await room.subscribe();
  const stop = server.refuse("channel_message", new Refusal("validation_error"), Infinity);
  await expect(room.publish({ text: "" })).rejects.toMatchObject({ type: "validation_error" });
  await expect(room.publish({ text: "" })).rejects.toMatchObject({ type: "validation_error" });
  stop();
  await room.publish({ text: "ok" });
});

test("a rate limit ends in the test's own time", async () => {
  const server = new FakeServer<Chat>();
  const client = await server.connected();
  server.refuse("subscribe_channel", new Refusal("rate_limited", "slow down", { retry_after: 4000 }));
  const subscribed = vi.fn();
  void client.channel("room:1").subscribe().then(subscribed);
  await server.pass(3900);
  expect(subscribed).not.toHaveBeenCalled();
  await server.pass(200);
  expect(subscribed).toHaveBeenCalledOnce();
});

test("requests are answered, refused or reported as unhandled, and client requests are sent", async () => {
  const server = new FakeServer<Chat>();
  const client = await server.connected({ user: "ana" });
  await expect(client.request("rename", { name: "x" })).rejects.toMatchObject({ type: "unknown_event" });
  const off = server.answer("rename", ({ name }, user) => {
    if (!name) throw new Refusal("validation_error", "a name, please");
    return { name: `${user}'s ${name}` };
  });
  expect(await client.request("rename", { name: "x" })).toEqual({ name: "ana's x" });
  await expect(client.request("rename", { name: "" })).rejects.toMatchObject({ message: "a name, please" });
  off();
  await expect(client.request("rename", { name: "x" })).rejects.toMatchObject({ type: "unknown_event" });
  client.onRequest("confirm", ({ text }) => text === "sure?");
  expect(await server.ask("ana", "confirm", { text: "sure?" })).toBe(true);
  client.onRequest("confirm", () => Promise.reject(new Error("not now")));
  await expect(server.ask("ana", "confirm", { text: "sure?" })).rejects.toThrow("not now");
  await expect(server.ask("bob", "confirm", { text: "" })).rejects.toThrow("bob is not connected");
});

test("messages reach the clients of one user", async () => {
  const server = new FakeServer<Chat>();
  const [ana, bob] = [await server.connected({ user: "ana" }), await server.connected({ user: "bob" })];
  const heard: unknown[] = [];
  ana.on("welcome", ({ motd }) => heard.push(motd));
  bob.on("private", ({ from, message }) => heard.push([from, message]));
  await server.send("ana", { type: "welcome", motd: "hello" });
  await ana.sendToUser("bob", "psst");
  expect(heard).toEqual(["hello", ["ana", "psst"]]);
});

test("presence: others join, update and leave, and the metadata of clients is recorded", async () => {
  const server = new FakeServer<Chat>();
  const { client } = await inRoom(server);
  const { presence } = client.channel("room:1");
  const seen: string[] = [];
  presence.on("join", ({ user }) => seen.push(`+${user}`));
  presence.on("update", ({ user, status }) => seen.push(`${user} ${status}`));
  presence.on("leave", ({ user }) => seen.push(`-${user}`));
  const room = server.channel("room:1");
  await room.join("bob", { metadata: { name: "Bob" } });
  expect(presence.users.get("bob")).toMatchObject({ status: "online", metadata: { name: "Bob" } });
  await room.join("bob", { status: "away" });
  await room.leave("bob");
  await client.updateStatus("busy");
  await presence.update({ device: "phone" });
  expect(seen).toEqual(["+bob", "bob away", "-bob", "ana busy"]);
  expect(presence.users.get("ana")?.devices).toMatchObject([{ metadata: { device: "phone" } }]);
  expect(room.present).toEqual(["ana"]);
  const standing = await client.channel("room:1").subscribe();
  await client.channel("room:1").unsubscribe();
  expect(standing.recoverable).toBe(true);
  expect(room.present).toEqual([]);
});

test("client events reach the others, and the test records them", async () => {
  const server = new FakeServer<Chat>({ channels: { clientEvents: { cursor: 20 } } });
  const { client } = await inRoom(server);
  const moves: unknown[] = [];
  client.channel("room:1").onEvent("cursor", ({ user, data }) => moves.push([user, data.x]));
  await server.channel("room:1").send("cursor", { x: 1 }, "bob");
  client.channel("room:1").send("cursor", { x: 2 });
  client.channel("room:1").send("cursor", { x: 3 });
  client.channel("room:1").send("cursor", { x: 4 });
  await server.pass(50);
  expect(moves).toEqual([["bob", 1]]);
  expect(server.channel("room:1").events).toEqual([2, 4].map((x) => ({ type: "cursor", user: "ana", data: { x } })));
});

test("the history is read forwards and backwards, and a lost one causes a gap", async () => {
  const server = new FakeServer<Chat>({ channels: () => ({ history: 5 }) });
  const { client } = await inRoom(server);
  const room = client.channel("room:1");
  for (let n = 1; n <= 8; n++) await server.channel("room:1").publish({ text: `${n}` });
  expect((await room.history({ limit: 2 })).messages).toMatchObject([{ offset: 4 }, { offset: 5 }]);
  const backwards: number[] = [];
  for await (const { offset } of room.older({ limit: 2 })) backwards.push(offset as number);
  expect(backwards).toEqual([8, 7, 6, 5, 4]);
  const gaps: unknown[] = [];
  room.onGap(({ reason }) => gaps.push(reason));
  await server.channel("room:1").forget();
  await server.cut();
  for (let n = 0; n < 6; n++) await server.channel("room:1").publish({ text: "missed" });
  await server.restore();
  expect(gaps).toEqual(["epoch_changed", "too_old"]);
});

test("a channel without history keeps nothing, and a recovery outside of the session contains messages without an echo", async () => {
  const server = new FakeServer({ channels: (name) => (name === "none" ? { history: 0 } : {}) });
  const client = await server.connected();
  await client.channel("none").subscribe();
  await expect(client.channel("none").history()).rejects.toMatchObject({ type: "validation_error" });
  const heard: unknown[] = [];
  const room = client.channel("room");
  room.on("message", ({ content }) => heard.push(content));
  await room.subscribe();
  const first = await room.publish(1);
  // The answer is lost, and the client requests the later messages again.
  const published = room.publish("quiet", { echo: false });
  while (server.channel("room").messages.length < 2) await undefined;
  await server.cut();
  await server.restore();
  await published;
  await server.settled();
  expect(heard).toEqual([1]);
  const other = await server.connected();
  other.channel("room").on("message", ({ content }) => heard.push(content));
  await other.channel("room").subscribe({ since: first });
  await server.settled();
  expect(heard).toEqual([1, "quiet"]);
});

test("a session is kept for its window, then the user leaves and the client starts a new one", async () => {
  const server = new FakeServer<Chat>();
  const { client, heard } = await inRoom(server);
  const { client: bob } = await inRoom(server, "bob");
  const left = vi.fn();
  bob.channel("room:1").presence.on("leave", ({ user }) => left(user));
  // However the server ends a connection, its session can be resumed.
  for (const code of [1001, 1006, 3000]) {
    await server.drop(code);
    await server.pass(10_000);
    expect(client.state).toMatchObject({ name: "connected", session: { resumed: true } });
  }
  expect(left).not.toHaveBeenCalled();
  server.rejectConnections(503);
  await server.drop(1006);
  await server.pass(59_000);
  expect(server.channel("room:1").present).toEqual(["ana", "bob"]);
  await server.pass(2_000);
  expect(server.channel("room:1").present).toEqual([]);
  await server.channel("room:1").publish({ text: "missed" });
  server.rejectConnections();
  await server.pass(60_000);
  expect(client.state).toMatchObject({ name: "connected", session: { resumed: false } });
  expect(heard).toEqual(["app: missed"]);
});

test("a subscription that ends while its client is away does not return with the session", async () => {
  const server = new FakeServer<Chat>();
  const { client } = await inRoom(server);
  const { client: bob } = await inRoom(server, "bob");
  await server.channel("room:1").unsubscribe("bob");
  await server.cut();
  await server.channel("room:1").unsubscribe("ana");
  expect(server.channel("room:1").present).toEqual([]);
  await server.restore();
  expect([client, bob].map((one) => one.state)).toMatchObject([{ session: { resumed: true } }, { session: { resumed: true } }]);
  // The session subscribes neither of them. A client that still needs the channel subscribes again.
  expect(bob.channel("room:1").state.name).toBe("unsubscribed");
  expect(server.channel("room:1").subscribers).toEqual(["ana"]);
  expect(server.requests("subscribe_channel")).toHaveLength(3);
});

test("a client request to disconnected clients fails", async () => {
  const server = new FakeServer<Chat>();
  const clients = [await server.connected({ user: "ana" }), await server.connected({ user: "ana" })];
  for (const client of clients) client.onRequest("confirm", () => new Promise(() => {}));
  const failed = vi.fn();
  server.ask("ana", "confirm", { text: "?" }).catch(({ message }: Error) => failed(message));
  clients[0]!.close();
  await server.settled();
  expect(failed).not.toHaveBeenCalled();
  await server.cut();
  expect(failed).toHaveBeenCalledWith("ana is gone");
});

test("keys are remembered for five minutes, unless the server loses its memory", async () => {
  const server = new FakeServer<Chat>();
  const { client } = await inRoom(server);
  const publish = () => client.channel("room:1").publish({ text: "x" }, { key: "k" });
  expect([await publish(), await publish()]).toMatchObject([{ offset: 1 }, { offset: 1 }]);
  await server.pass(301_000);
  expect(await publish()).toMatchObject({ offset: 2 });
  await server.channel("room:1").forget();
  expect(await publish()).toMatchObject({ epoch: "epoch-2", offset: 1 });
});

test("credentials are renewed only for the same user", async () => {
  const authenticate = ({ token }: { token: string | undefined }) => {
    if (token === "ended") throw new Refusal("token_expired");
    return token ?? "nobody";
  };
  const server = new FakeServer({ authenticate });
  const client = await server.connected({ getToken: () => "ana" });
  const refresh = (token: string) => client.request("refresh", { token });
  await refresh("ana");
  await expect(refresh("bob")).rejects.toMatchObject({ type: "unauthorized" });
  await expect(refresh("ended")).rejects.toMatchObject({ type: "token_expired", temporary: true });
});

test("a move to another node keeps the session, and closes the old connection", async () => {
  const server = new FakeServer<Chat>();
  const { client, heard } = await inRoom(server);
  const closed = vi.fn();
  client.onState(({ name }) => closed(name));
  await server.send("ana", { type: "reconnect", after: [0, 0], reason: "drain" });
  await server.pass(15_000);
  await server.channel("room:1").publish({ text: "hi" });
  expect(server.users).toEqual(["ana"]);
  expect(server.channel("room:1").subscribers).toEqual(["ana"]);
  expect(heard).toEqual(["app: hi"]);
  expect(closed.mock.calls).toEqual([["connected"]]);
});

test("a client that is closed while it connects never joins", async () => {
  for (let turns = 0; turns < 10; turns++) {
    const server = new FakeServer();
    const client = server.client();
    void client.connect().catch(() => {});
    for (let turn = 0; turn < turns; turn++) await undefined;
    client.close();
    await server.settled();
    expect([turns, server.users]).toEqual([turns, []]);
    await client.connect();
    client.reconnect();
    client.reconnect();
    await server.settled();
    expect([turns, server.users]).toEqual([turns, ["me"]]);
  }
});

test("a handshake is refused, and the credentials are checked", async () => {
  const server = new FakeServer({
    authenticate: ({ token }) => {
      if (!token) throw new Error("no token");
      return token;
    },
  });
  await expect(server.connected()).rejects.toMatchObject({ kind: "closed", message: "no token" });
  const client = await server.connected({ getToken: () => "ana" });
  expect(client.user).toBe("ana");
  client.close();
  await server.settled();
  expect(server.users).toEqual([]);
  server.rejectConnections(503);
  const late = server.client({ getToken: () => "ana" });
  void late.connect();
  await server.pass(3000);
  expect(late.state.name).toBe("connecting");
  server.rejectConnections();
  await server.pass(60_000);
  expect(late.state.name).toBe("connected");
});

test("fake timers of the test runner advance a client that has only the fake sockets", async () => {
  vi.useFakeTimers();
  const server = new FakeServer({ time: "global" });
  const { Client } = await import("../src/index.js");
  const client = new Client("wss://app.example/?user=ana", { WebSocket: server.WebSocket, logger: { debug() {}, info() {}, warn() {}, error() {} } });
  await client.connect();
  await server.drop(1006);
  expect(client.state.name).toBe("reconnecting");
  await vi.advanceTimersByTimeAsync(2000);
  expect(client.state.name).toBe("connected");
  await expect(server.pass(1)).rejects.toThrow("global");
  client.close();
});

test("messages pass between server and client without timers or tasks", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "setImmediate", "queueMicrotask", "Date"] });
  const server = new FakeServer<Chat>();
  const { heard } = await inRoom(server);
  await server.channel("room:1").publish({ text: "hi" });
  expect(heard).toEqual(["app: hi"]);
});

test("a message published at any moment of a subscription is before its position, or arrives", async () => {
  for (let moment = 0; moment < 40; moment++) {
    const server = new FakeServer<Chat>();
    const client = await server.connected({ user: "ana" });
    const room = client.channel("room:1");
    const heard: (number | undefined)[] = [];
    room.on("message", ({ offset }) => heard.push(offset));
    const subscribed = room.subscribe();
    for (let turn = 0; turn < moment; turn++) await undefined;
    await server.channel("room:1").publish({ text: "hi" });
    expect([moment, (await subscribed).position?.offset === 1 ? [1] : heard]).toEqual([moment, [1]]);
  }
});
