// The stores of the bindings: what they keep alive, their values, and how often they notify.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type AnyChannel, Client, type Unsubscribe } from "../src/index.js";
import {
  createChannel,
  createChannelState,
  createConnectionState,
  createPresence,
  createRequest,
  createStore,
  createTyping,
  holdConnection,
} from "../src/stores.js";
import { Chat, fakeTimers } from "./chat.js";

beforeEach(fakeTimers);
afterEach(() => vi.useRealTimers());

const listen = () => {};

test("a store runs while it has listeners, and keeps running if a listener returns at once", async () => {
  const log: string[] = [];
  const start = () => {
    log.push("start");
    return () => log.push("stop");
  };
  const store = createStore(() => 1, start as () => Unsubscribe);
  const first = store.subscribe(listen);
  const second = store.subscribe(listen);
  first();
  first();
  second();
  const third = store.subscribe(listen);
  await vi.advanceTimersByTimeAsync(100);
  expect(log).toEqual(["start"]);
  third();
  await vi.advanceTimersByTimeAsync(100);
  expect(log).toEqual(["start", "stop"]);
  store.subscribe(listen)();
  expect(log).toEqual(["start", "stop", "start"]);
});

test("listeners are called once for all changes of a frame", async () => {
  let change = () => {};
  let told = 0;
  const store = createStore(() => 1, (changed) => ((change = changed), () => {}));
  store.subscribe(() => told++);
  for (let n = 0; n < 10; n++) change();
  expect(told).toBe(0);
  await vi.advanceTimersByTimeAsync(16);
  expect(told).toBe(1);
  change();
  await vi.advanceTimersByTimeAsync(16);
  expect(told).toBe(2);
});

test("a client connects with its first holder, and closes after its last", async () => {
  const chat = new Chat();
  const state = createConnectionState(chat.client);
  expect(state.get().name).toBe("closed");
  const first = holdConnection(chat.client);
  const second = holdConnection(chat.client);
  await chat.turn();
  expect(chat.world.sockets).toHaveLength(1);
  first();
  await chat.turn();
  expect(state.get().name).toBe("connected");
  second();
  const third = holdConnection(chat.client);
  await chat.turn();
  expect(state.get().name).toBe("connected");
  third();
  await chat.turn();
  expect(state.get().name).toBe("closed");
  expect(chat.world.sockets).toHaveLength(1);
});

test("a client that was connected before is not closed by its holders", async () => {
  const chat = await Chat.connected();
  holdConnection(chat.client)();
  await chat.turn();
  expect(chat.client.state.name).toBe("connected");
});

test("a subscription starts with the connection, even if the client was closed before", async () => {
  const chat = new Chat();
  chat.client.close();
  const off = createChannel(chat.client, "room", () => ({ metadata: { device: "phone" } })).subscribe(listen);
  const state = createChannelState(chat.client.channel("room"));
  expect(state.get().name).toBe("unsubscribed");
  for (let round = 1; round <= 2; round++) {
    const end = holdConnection(chat.client);
    await chat.turn();
    expect(chat.socket.all("subscribe_channel")).toMatchObject([{ channel: "room", metadata: { device: "phone" } }]);
    expect(state.get().name).toBe("subscribed");
    end();
    await chat.turn();
  }
  off();
});

test("a refused channel is not requested again", async () => {
  const chat = await Chat.connected();
  chat.answers = () => false;
  createChannel(chat.client, "room").subscribe(listen);
  await chat.turn();
  await chat.socket.refuse("subscribe_channel", "permission_denied");
  await chat.turn();
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("without a name there is no channel", async () => {
  const chat = await Chat.connected();
  const store = createChannel(chat.client, null);
  store.subscribe(listen)();
  expect(store.get()).toBe(null);
  expect(createChannelState(null).get()).toEqual({ name: "unsubscribed" });
  await chat.turn();
  expect(chat.socket.heard).toEqual([]);
});

test("presence is an immutable snapshot, and a burst of changes causes one", async () => {
  const chat = await Chat.connected();
  const room = chat.client.channel("room");
  createChannel(chat.client, "room").subscribe(listen);
  const store = createPresence(room);
  let told = 0;
  store.subscribe(() => told++);
  await chat.turn();
  const user = (name: string) => ({ [name]: { status: "online", metadata: {}, connections: [] } });
  await chat.socket.say({ type: "presence_state", channel: "room", users: user("ana"), count: 1, offset: 1 });
  await chat.turn();
  const before = store.get();
  const tellings = told;
  expect([...before.users.keys()]).toEqual(["ana"]);
  for (let n = 2; n <= 50; n++) {
    const change = { user: `u${n}`, status: "online", metadata: {}, connections: 1, timestamp: 1 };
    await chat.socket.say({ type: "presence_change", channel: "room", event: "join", offset: n, ...change });
  }
  await chat.turn();
  expect(told).toBe(tellings + 1);
  expect([...before.users.keys()]).toEqual(["ana"]);
  expect(store.get()).toMatchObject({ count: 50, isListed: true });
  expect(store.get().users.size).toBe(50);
  expect(store.get()).toBe(store.get());
});

test("only the last of overlapping requests counts, and none rejects", async () => {
  const chat = await Chat.connected();
  chat.answers = () => false;
  const store = createRequest<{ n: number }, string>(chat.client, "double");
  store.subscribe(listen);
  const first = store.request({ n: 1 });
  const second = store.request({ n: 2 });
  expect(store.get()).toEqual({ reply: undefined, error: undefined, isPending: true });
  await chat.turn();
  const [one, two] = chat.socket.all("double");
  await chat.socket.say({ type: "ack", id: two?.["id"], data: "four" });
  await chat.socket.say({ type: "ack", id: one?.["id"], data: "two" });
  expect([await first, await second]).toEqual(["two", "four"]);
  expect(store.get()).toEqual({ reply: "four", error: undefined, isPending: false });
  const third = store.request({ n: 3 });
  await chat.turn();
  await chat.socket.refuse("double", "application_error");
  expect(await third).toBeUndefined();
  expect(store.get()).toMatchObject({ reply: "four", error: { type: "application_error" }, isPending: false });
});

/** Returns a channel that the test controls: the events that are sent, and those of other clients. */
function held() {
  const listeners: Record<string, (value: any) => void> = {};
  const sent: unknown[] = [];
  const on = (event: string, listener: (value: any) => void) => {
    listeners[event] = listener;
    return () => delete listeners[event];
  };
  const channel = {
    name: "room",
    on,
    onEvent: (type: string, listener: (value: any) => void) => on(`event ${type}`, listener),
    presence: { on: (event: string, listener: (value: any) => void) => on(`presence ${event}`, listener) },
    send: (type: string, data: unknown) => sent.push([type, data]),
  };
  const tell = (event: string, value: object) => listeners[event]?.(value);
  return { channel: channel as unknown as AnyChannel, sent, listeners, tell };
}

test("a typing user is shown until the user stops, sends, leaves or is silent", async () => {
  const { channel, tell, listeners } = held();
  const typing = createTyping(new Client("/"), channel, { timeout: 1000 });
  const off = typing.subscribe(listen);
  const types = (user: string, data: unknown = true) => tell("event typing", { user, data });
  for (const user of ["ann", "bob", "cem", "dan"]) types(user);
  const { users } = typing.get();
  expect(users).toEqual(["ann", "bob", "cem", "dan"]);
  types("bob");
  expect(typing.get().users).toBe(users);
  types("ann", false);
  tell("message", { user: "bob" });
  tell("presence leave", { user: "cem" });
  expect(typing.get().users).toEqual(["dan"]);
  await vi.advanceTimersByTimeAsync(900);
  types("dan");
  await vi.advanceTimersByTimeAsync(900);
  expect(typing.get().users).toEqual(["dan"]);
  await vi.advanceTimersByTimeAsync(100);
  expect(typing.get().users).toEqual([]);
  types("dan");
  off();
  await vi.advanceTimersByTimeAsync(20);
  expect(typing.get().users).toEqual([]);
  expect(listeners).toEqual({});
  expect(vi.getTimerCount()).toBe(0);
});

test("typing is sent at its start, then rarely, and its end once", async () => {
  const { channel, sent } = held();
  const typing = createTyping(new Client("/"), channel, { timeout: 1000, event: "writes" });
  typing.stopTyping();
  for (let n = 0; n < 10; n++) {
    typing.startTyping();
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(sent).toEqual([["writes", true], ["writes", true]]);
  typing.stopTyping();
  typing.stopTyping();
  typing.startTyping();
  expect(sent.slice(2)).toEqual([["writes", false], ["writes", true]]);
});
