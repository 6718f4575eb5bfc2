// @vitest-environment happy-dom
// The Svelte bindings in a page: changing names, reading values, unmounted components.

import { flushSync, mount, unmount } from "svelte";
import { expect, expectTypeOf, test } from "vitest";
import type { Channel } from "../src/index.js";
import type { Reactive, createBindings, useEvent, useMessages } from "../src/svelte.js";
import { Chat } from "./chat.js";
import { type Chatter, eachPage } from "./page.js";
import App from "./svelte/App.svelte";
import Room from "./svelte/Room.svelte";
import { props } from "./svelte/props.svelte.js";

let page: object | undefined;

eachPage(async () => {
  if (page) await unmount(page);
  page = undefined;
});

async function open(chat: Chat, name: string | null) {
  const heard: unknown[] = [];
  let parts: any;
  const given = props({ client: chat.client, Inside: Room, name, heard, expose: (all: object) => (parts = all) });
  page = mount(App, { target: document.body, props: given });
  await turn(chat);
  return { heard, parts, given };
}

async function turn(chat: Chat): Promise<void> {
  await chat.turn();
  flushSync();
}

const text = () => [...document.querySelectorAll("p")].map((line) => line.textContent);

test("a room shows live and older messages over one socket", async () => {
  const chat = new Chat();
  for (let n = 1; n <= 3; n++) chat.keep(`#${n}`);
  const { parts, heard } = await open(chat, "room");
  expect(text()[0]).toBe("connected subscribed #2 #3");
  void parts.list.loadOlder();
  void parts.list.publish("mine");
  await turn(chat);
  await chat.say("live");
  await turn(chat);
  expect(text()[0]).toBe("connected subscribed #1 #2 #3 mine live");
  expect(heard).toEqual(["live"]);
  expect(chat.world.sockets).toHaveLength(1);
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("a changed name changes the channel and its listeners", async () => {
  const chat = new Chat();
  const { given, heard } = await open(chat, "a");
  const say = (channel: string) => chat.socket.say({ type: "message", channel, content: channel, timestamp: 1, offset: 1 });
  await say("a");
  given["name"] = "b";
  await turn(chat);
  await say("b");
  given["name"] = null;
  await turn(chat);
  expect(heard).toEqual(["a", "b"]);
  expect(text()[0]).toBe("connected unsubscribed");
  expect(["a", "b"].map((of) => chat.client.channel(of).state.name)).toEqual(["unsubscribed", "unsubscribed"]);
});

test("presence and requests are stores, too", async () => {
  const chat = new Chat();
  const { parts } = await open(chat, "room");
  const user = { status: "online", metadata: {}, connections: [] };
  await chat.socket.say({ type: "presence_state", channel: "room", users: { ana: user, bob: user }, count: 2, offset: 1 });
  chat.answers = () => false;
  void parts.rename.request({ name: "Ana" });
  parts.typing.startTyping();
  await turn(chat);
  await chat.socket.ack("rename", { name: "Ana!" });
  await turn(chat);
  expect(text()[1]).toBe("2 people, 0 typing, Ana!");
});

test("the subscription and the connection end with the component", async () => {
  const chat = new Chat();
  await open(chat, "room");
  await unmount(page as object);
  page = undefined;
  await turn(chat);
  expect(chat.client.state.name).toBe("closed");
  expect(chat.client.channel("room").state.name).toBe("unsubscribed");
});

test("the first render shows no closed connection", async () => {
  const chat = new Chat();
  const opened = open(chat, "room");
  flushSync();
  expect(text()[0]).toBe("connecting unsubscribed");
  await opened;
  expect(text()[0]).toBe("connected subscribed");
});

test("the name may change from a to b and back while the channel subscribes, and the component may be destroyed meanwhile", async () => {
  const chat = new Chat();
  chat.answers = ({ type }) => type !== "subscribe_channel";
  const { given } = await open(chat, "a");
  for (const name of ["b", null, "a"]) {
    given["name"] = name;
    flushSync();
  }
  await turn(chat);
  chat.answers = () => true;
  await turn(chat);
  await turn(chat);
  const states = () => ["a", "b"].map((of) => chat.client.channel(of).state.name);
  expect(states()).toEqual(["subscribed", "unsubscribed"]);
  chat.answers = ({ type }) => type !== "subscribe_channel";
  given["name"] = "b";
  await turn(chat);
  await unmount(page as object);
  page = undefined;
  chat.answers = () => true;
  await turn(chat);
  expect(states()).toEqual(["unsubscribed", "unsubscribed"]);
});

test("a burst causes one change of the page", async () => {
  const chat = new Chat();
  await open(chat, "room");
  let changes = 0;
  const observer = new MutationObserver(() => changes++);
  observer.observe(document.querySelectorAll("p")[0] as Node, { characterData: true, childList: true, subtree: true });
  for (let n = 0; n < 50; n++) await chat.say(n);
  await turn(chat);
  await turn(chat);
  expect(text()[0]?.split(" ")).toHaveLength(52);
  expect(changes).toBeLessThanOrEqual(1);
  observer.disconnect();
});

test("a function without a client throws an error about the missing client", () => {
  const alone = () => mount(Room, { target: document.body, props: { name: null, heard: [], expose: () => {} } });
  expect(alone).toThrow("no client is provided");
});

test("the contract types the functions in one place", () => {
  const use = (bindings: ReturnType<typeof createBindings<Chatter>>, on: typeof useEvent, messages: typeof useMessages) => {
    const room = bindings.useChannel(() => "room:1" as const);
    expectTypeOf(room).toEqualTypeOf<Reactive<Channel<{ message: { text: string }; closing: { minutes: number } }, { cursor: { x: number }; typing: boolean }> | null>>();
    on(room, "closing", ({ minutes }) => expectTypeOf(minutes).toEqualTypeOf<number>());
    // @ts-expect-error: no message of a room has this type
    on(room, "shouting", () => {});
    // @ts-expect-error: no channel has this name
    bindings.useChannel(() => "elsewhere" as const);
    const [first] = messages(room).current.messages;
    if (first?.kind === "message") expectTypeOf(first.content).toEqualTypeOf<{ text: string }>();
    expectTypeOf(bindings.useRequest("rename").current.reply).toEqualTypeOf<{ name: string } | undefined>();
  };
  expect(use).toBeTypeOf("function");
});
