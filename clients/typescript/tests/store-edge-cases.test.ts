// The stores of the bindings under unusual conditions: shares, tokens, listeners, time, types.

import { afterEach, beforeEach, expect, expectTypeOf, test, vi } from "vitest";
import { type Channel, Client } from "../src/index.js";
import {
  type ListedGap,
  type ListedMessage,
  type Store,
  createChannel,
  createChannelState,
  createConnectionState,
  createMessageList,
  createPresence,
  createRequest,
  createStore,
  createTyping,
  holdConnection,
} from "../src/stores.js";
import { FakeServer } from "../src/testing.js";
import { Chat, fakeTimers } from "./chat.js";

beforeEach(fakeTimers);
afterEach(() => vi.useRealTimers());

const listen = () => {};

test("the signal of the options ends the share, even if listeners remain", async () => {
  const chat = await Chat.connected();
  const abort = new AbortController();
  const store = createChannel(chat.client, "room", () => ({ signal: abort.signal }));
  const off = store.subscribe(listen);
  await chat.turn();
  expect(store.get()?.state.name).toBe("subscribed");
  abort.abort();
  await chat.turn();
  expect(store.get()?.state.name).toBe("unsubscribed");
  off();
  await chat.turn();
  store.subscribe(listen);
  await chat.turn();
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("a signal that is aborted while the client is closed requests nothing", async () => {
  const chat = new Chat();
  const abort = new AbortController();
  createChannel(chat.client, "room", () => ({ signal: abort.signal })).subscribe(listen);
  abort.abort();
  holdConnection(chat.client);
  await chat.turn();
  expect(chat.socket.all("subscribe_channel")).toEqual([]);
});

test("the listener of a signal is removed when the share has ended", async () => {
  const chat = await Chat.connected();
  const listeners = new Set<() => void>();
  const signal = {
    aborted: false,
    addEventListener: (_: "abort", listener: () => void) => listeners.add(listener),
    removeEventListener: (_: "abort", listener: () => void) => listeners.delete(listener),
  };
  const off = createChannel(chat.client, "room", () => ({ signal })).subscribe(listen);
  await chat.turn();
  expect(listeners.size).toBe(1);
  off();
  await chat.turn();
  expect(listeners.size).toBe(0);
});

test("the token of a later subscription comes from the newest options", async () => {
  const chat = await Chat.connected();
  let user = "ana";
  // A component passes another object and another function with each render.
  const options = () => ({ getToken: ((token) => () => token)(`token of ${user}`) });
  createChannel(chat.client, "room", options).subscribe(listen);
  await chat.turn();
  user = "bob";
  await chat.lose();
  expect(chat.socket.all("subscribe_channel").map((message) => message["token"])).toEqual(["token of bob"]);
});

test("a listener that is added while the store starts sees it started", async () => {
  const log: string[] = [];
  let isFirst = true;
  const store: Store<number> = createStore(
    () => 1,
    () => {
      log.push("start");
      if (isFirst) {
        isFirst = false;
        store.subscribe(listen)();
      }
      return () => log.push("stop");
    },
  );
  store.subscribe(listen)();
  await vi.advanceTimersByTimeAsync(100);
  expect(log).toEqual(["start", "stop"]);
});

test("a listener that fails does not affect the others", async () => {
  let change = () => {};
  const failed: unknown[] = [];
  const before = process.rawListeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => failed.push(error.message));
  const store = createStore(() => 1, (changed) => ((change = changed), () => {}));
  let told = 0;
  store.subscribe(() => {
    throw new Error("broken");
  });
  store.subscribe(() => told++);
  change();
  await vi.advanceTimersByTimeAsync(16);
  await new Promise(setImmediate);
  process.removeAllListeners("uncaughtException");
  for (const listener of before) process.on("uncaughtException", listener as never);
  expect(told).toBe(1);
  expect(failed).toEqual(["broken"]);
});

test("a fake server controls the time of its clients' stores", async () => {
  const server = new FakeServer();
  const client = await server.connected({ user: "ana" });
  const channel = createChannel(client, "room");
  const room = client.channel("room");
  const list = createMessageList(client, room);
  const typing = createTyping(client, room);
  const presence = createPresence(room);
  const told = { list: 0, typing: 0, presence: 0 };
  const offs = [
    channel.subscribe(listen),
    createChannelState(room).subscribe(listen),
    list.subscribe(() => told.list++),
    typing.subscribe(() => told.typing++),
    presence.subscribe(() => told.presence++),
  ];
  await server.pass(100);
  const before = { ...told };
  await server.channel("room").publish("hi", { user: "bob" });
  await server.channel("room").send("typing", true, "bob");
  expect(told).toEqual(before);
  await server.pass(16);
  expect([told.list, told.typing]).toEqual([before.list + 1, before.typing + 1]);
  expect(typing.get().users).toEqual(["bob"]);
  typing.startTyping();
  typing.startTyping();
  await server.pass(5000);
  expect(typing.get().users).toEqual([]);
  typing.startTyping();
  await server.pass(0);
  expect(server.requests("client_event")).toHaveLength(2);
  for (const off of offs) off();
  expect(room.state.name).toBe("subscribed");
  await server.pass(0);
  expect(room.state.name).toBe("unsubscribed");
  expect(vi.getTimerCount()).toBe(0);
  const { timestamp } = list.get().messages[0] as ListedMessage<unknown>;
  expect(new Date(timestamp).getUTCFullYear()).toBe(2026);
});

test("a clock that is set back neither prolongs nor ends typing, nor suppresses this user's typing", async () => {
  const chat = await Chat.connected();
  const room = chat.client.channel("room");
  createChannel(chat.client, "room").subscribe(listen);
  const typing = createTyping(chat.client, room, { timeout: 1000 });
  typing.subscribe(listen);
  await chat.turn();
  await chat.socket.say({ type: "client_event", channel: "room", event: "typing", user: "bob", data: true });
  typing.startTyping();
  chat.world.setBack(3_600_000);
  expect(typing.get().users).toEqual(["bob"]);
  await chat.world.pass(1000);
  expect(typing.get().users).toEqual([]);
  typing.startTyping();
  expect(chat.socket.all("client_event")).toHaveLength(2);
});

test("a connection that is about to be opened is not shown as closed", async () => {
  const chat = new Chat();
  const state = createConnectionState(chat.client, true);
  expect(state.get()).toEqual({ name: "connecting", attempt: 0 });
  state.subscribe(listen);
  expect(state.get().name).toBe("connecting");
  await chat.turn();
  // No code has connected the client.
  expect(state.get().name).toBe("closed");
  holdConnection(chat.client);
  await chat.turn();
  expect(state.get().name).toBe("connected");
  expect(createConnectionState(new Client("/")).get().name).toBe("closed");
});

test("a thousand components leave no timer, listener or share", async () => {
  const chat = await Chat.connected(3);
  const timers = chat.world.timers;
  for (let n = 0; n < 1000; n++) {
    const name = `room:${n % 10}`;
    const room = chat.client.channel(name);
    const list = createMessageList(chat.client, room);
    const typing = createTyping(chat.client, room);
    const all = [createConnectionState(chat.client), createChannel(chat.client, name), list, typing, createPresence(room)];
    const offs = all.map((store) => store.subscribe(listen));
    typing.startTyping();
    for (const off of offs) off();
  }
  await chat.turn();
  await chat.world.pass(5000);
  await chat.turn();
  expect(Array.from({ length: 10 }, (_, n) => chat.client.channel(`room:${n}`).state.name)).toEqual(Array(10).fill("unsubscribed"));
  expect(chat.world.timers).toBe(timers);
  expect(vi.getTimerCount()).toBe(0);
});

interface Chatter {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  channels: { "room:{id}": { message: { text: string } } };
  clientEvents: { "room:{id}": { cursor: { x: number }; typing: boolean }; "desk:{id}": { writes: boolean; cursor: { x: number } } };
}

test("the stores are typed by their channel, and those of a client by its contract", () => {
  const use = (client: Client<Chatter>, desk: Channel<{ message: string }, Chatter["clientEvents"]["desk:{id}"]>) => {
    const room = createChannel(client, "room:1");
    expectTypeOf(room.get()).toEqualTypeOf<Channel<{ message: { text: string } }, { cursor: { x: number }; typing: boolean }> | null>();
    // @ts-expect-error: no channel has this name
    createChannel(client, "elsewhere");
    expectTypeOf(createChannel<{ message: number }>(client, "any").get()).toEqualTypeOf<Channel<{ message: number }> | null>();
    const list = createMessageList(client, room.get());
    expectTypeOf(list.get().messages).toEqualTypeOf<readonly (ListedGap | ListedMessage<{ text: string }>)[]>();
    // @ts-expect-error: a room's content is an object
    void list.publish("text");
    const rename = createRequest(client, "rename");
    expectTypeOf(rename.get().reply).toEqualTypeOf<{ name: string } | undefined>();
    // @ts-expect-error: it needs a name
    void rename.request();
    // @ts-expect-error: nobody answers it
    createRequest(client, "reboot");
    createTyping(client, room.get());
    // @ts-expect-error: a cursor says nothing of typing
    createTyping(client, room.get(), { event: "cursor" });
    // @ts-expect-error: at a desk, `typing` is no client event
    createTyping(client, desk);
    createTyping(client, desk, { event: "writes" });
    createTyping(client, client.channel<{ message: string }>("any"));
  };
  expect(use).toBeTypeOf("function");
});

test("a listener that is added while a store stops starts it again", async () => {
  const chat = new Chat();
  let running = 0;
  let ended = () => {};
  const start = () => {
    running++;
    return () => {
      running--;
      ended();
    };
  };
  const store = createStore(() => 0, start, 0, chat.client.environment);
  const off = store.subscribe(listen);
  ended = () => {
    ended = listen;
    store.subscribe(listen);
  };
  off();
  await chat.turn();
  expect(running).toBe(1);
});

test("a holder that is added in the listener of the closed state opens the connection again", async () => {
  const chat = new Chat();
  const off = holdConnection(chat.client);
  await chat.turn();
  const end = chat.client.onState(({ name }) => {
    if (name !== "closed") return;
    end();
    holdConnection(chat.client);
  });
  off();
  await chat.turn();
  expect(chat.client.state.name).toBe("connected");
});
