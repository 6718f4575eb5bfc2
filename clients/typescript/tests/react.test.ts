// @vitest-environment happy-dom
// The React bindings in a page: one socket and one subscription over StrictMode, routes and remounts; few
// renders; and nothing on a rendering server.

import { type ReactNode, StrictMode, act, createElement as h, useState } from "react";
import { type Root, createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { beforeEach, expect, expectTypeOf, test, vi } from "vitest";
import { type Channel, Client } from "../src/index.js";
import {
  HauynaProvider,
  createHooks,
  useChannel,
  useChannelState,
  useClient,
  useClientEvent,
  useConnection,
  useEvent,
  useMessages,
  usePresence,
  useRequest,
  useTyping,
} from "../src/react.js";
import { Chat } from "./chat.js";
import { type Chatter, eachPage } from "./page.js";

let root: Root | undefined;

beforeEach(() => void vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true));
eachPage(async () => {
  await act(async () => root?.unmount());
  root = undefined;
});

/** Renders into the page, in StrictMode. */
async function render(chat: Chat, ...children: ReactNode[]): Promise<void> {
  root ??= createRoot(document.body.appendChild(document.createElement("main")));
  const page = h(StrictMode, null, h(HauynaProvider, { client: chat.client }, ...children));
  await act(async () => root?.render(page));
  await turn(chat);
}

const turn = (chat: Chat) => act(() => chat.turn());
const text = () => document.querySelector("main")?.textContent;

function Room({ name = "room" as string | null }) {
  const connection = useConnection();
  const room = useChannel(name);
  const { name: standing } = useChannelState(room);
  const { messages, isLoading } = useMessages(room);
  const texts = messages.map((one) => (one.kind === "gap" ? "gap" : String(one.content)));
  return h("p", null, [connection.name, standing, isLoading ? "loading" : "loaded", ...texts].join(" "));
}

test("StrictMode causes one socket, one subscription and one history request", async () => {
  const chat = new Chat();
  for (const content of ["one", "two"]) chat.keep(content);
  await render(chat, h(Room));
  expect(text()).toBe("connected subscribed loaded one two");
  expect(chat.world.sockets).toHaveLength(1);
  expect(chat.socket.heard.map(({ type }) => type)).toEqual(["subscribe_channel", "history"]);
  await chat.say("three");
  await turn(chat);
  expect(text()).toBe("connected subscribed loaded one two three");
});

test("remounting a component, or mounting another of the same channel, sends no second subscribe request", async () => {
  const chat = new Chat();
  await render(chat, h(Room, { key: 1 }));
  await render(chat, h(Room, { key: 2 }));
  await render(chat, h(Room, { key: 3 }), h(Room, { key: 4 }));
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
  expect(chat.socket.all("unsubscribe_channel")).toHaveLength(0);
  expect(chat.world.sockets).toHaveLength(1);
});

test("fast route changes leave only the last channel subscribed, and cause no rejection", async () => {
  const chat = new Chat();
  chat.answers = () => false;
  for (const name of ["a", "b", "c", null, "a", "d"]) await render(chat, h(Room, { name }));
  chat.answers = () => true;
  await turn(chat);
  await turn(chat);
  const isSubscribed = (name: string) => chat.client.channel(name).state.name === "subscribed";
  expect(["a", "b", "c", "d"].filter(isSubscribed)).toEqual(["d"]);
  expect(chat.world.sockets).toHaveLength(1);
});

test("the client closes when the provider unmounts, and connects again with the next one", async () => {
  const chat = new Chat();
  await render(chat, h(Room));
  await act(async () => root?.unmount());
  root = undefined;
  document.body.replaceChildren();
  await turn(chat);
  expect(chat.client.state.name).toBe("closed");
  await render(chat, h(Room));
  expect(text()).toBe("connected subscribed loaded");
  expect(chat.world.sockets).toHaveLength(2);
});

test("the newest handlers are called without adding listeners again", async () => {
  const chat = new Chat();
  const heard: string[] = [];
  let rename: (name: string) => void = () => {};
  let channel: Channel | undefined;
  const on = vi.fn();
  function Listener() {
    const [name, setName] = useState("first");
    rename = setName;
    channel = useChannel("room");
    useEvent(channel, "message", ({ content }) => heard.push(`${name} ${content}`));
    return null;
  }
  await render(chat, h(Listener));
  const original = (channel as Channel).on;
  (channel as { on: unknown }).on = (...words: unknown[]) => (on(), original.apply(channel, words as never));
  await chat.say("a");
  await act(async () => rename("second"));
  await chat.say("b");
  expect(heard).toEqual(["first a", "second b"]);
  expect(on).not.toHaveBeenCalled();
});

test("a burst of messages or presence changes causes one render", async () => {
  const chat = new Chat();
  let renders = 0;
  function People() {
    renders++;
    const room = useChannel("room");
    const { count } = usePresence(room);
    return h("p", null, `${count} people, ${useMessages(room).messages.length} messages`);
  }
  await render(chat, h(People));
  await chat.socket.say({ type: "presence_state", channel: "room", users: {}, count: 0, offset: 0 });
  await turn(chat);
  const before = renders;
  for (let n = 1; n <= 50; n++) {
    await chat.say(`#${n}`);
    const change = { user: `u${n}`, status: "online", metadata: {}, connections: 1, timestamp: 1 };
    await chat.socket.say({ type: "presence_change", channel: "room", event: "join", offset: n, ...change });
  }
  await turn(chat);
  expect(text()).toBe("50 people, 50 messages");
  // StrictMode renders twice, and the two stores have a frame each.
  expect(renders - before).toBeLessThanOrEqual(4);
});

test("a request reports its result", async () => {
  const chat = new Chat();
  let ask: () => Promise<unknown> = async () => {};
  function Rename() {
    const rename = useRequest<{ name: string }, { name: string }>("rename");
    ask = () => rename.request({ name: "Ana" });
    return h("p", null, rename.isPending ? "pending" : (rename.error?.message ?? rename.reply?.name));
  }
  await render(chat, h(Rename));
  chat.answers = () => false;
  await act(async () => void ask());
  await turn(chat);
  expect(text()).toBe("pending");
  await act(() => chat.socket.ack("rename", { name: "Ana!" }));
  await turn(chat);
  expect(text()).toBe("Ana!");
});

test("typing is sent and shown", async () => {
  const chat = new Chat();
  let start = () => {};
  function Typing() {
    const { users, startTyping } = useTyping(useChannel("room"));
    start = startTyping;
    return h("p", null, users.join(", "));
  }
  await render(chat, h(Typing));
  await act(async () => start());
  expect(text()).toBe("");
});

test("a server renders the state before the connection, and the page continues from it", async () => {
  const sockets = vi.fn();
  vi.stubGlobal("WebSocket", sockets);
  const rendered = (client: Client<any>) => h(HauynaProvider, { client }, h(Room));
  const { window } = globalThis;
  vi.stubGlobal("window", undefined);
  vi.stubGlobal("document", undefined);
  const html = renderToString(rendered(new Client("/chat")));
  vi.unstubAllGlobals();
  expect(globalThis.window).toBe(window);
  expect(html).toBe("<p>connecting unsubscribed loading</p>");
  expect(sockets).not.toHaveBeenCalled();

  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  const complaints = vi.spyOn(console, "error");
  const chat = await Chat.connected(1);
  const main = document.body.appendChild(document.createElement("main"));
  main.innerHTML = html;
  await act(async () => {
    root = hydrateRoot(main, rendered(chat.client));
  });
  await turn(chat);
  expect(text()).toBe("connected subscribed loaded #1");
  expect(complaints).not.toHaveBeenCalled();
});

test("a hook without a provider throws an error about the missing provider", () => {
  const Alone = () => h("p", null, useClient().state.name);
  expect(() => renderToString(h(Alone))).toThrow("there is no HauynaProvider around this component");
});

test("the contract types the hooks in one place", () => {
  const hooks = createHooks<Chatter>();
  const Typed = () => {
    expectTypeOf(hooks.useClient()).toEqualTypeOf<Client<Chatter>>();
    const room = hooks.useChannel("room:1");
    useEvent(room, "closing", ({ minutes }) => expectTypeOf(minutes).toEqualTypeOf<number>());
    // @ts-expect-error: no message of a room has this type
    useEvent(room, "shouting", () => {});
    const list = useMessages(room);
    const [first] = list.messages;
    if (first?.kind === "message") expectTypeOf(first.content).toEqualTypeOf<{ text: string }>();
    // @ts-expect-error: a room's content is an object
    void (() => list.publish("text"));
    const rename = hooks.useRequest("rename");
    expectTypeOf(rename.reply).toEqualTypeOf<{ name: string } | undefined>();
    // @ts-expect-error: it needs a name
    void (() => rename.request());
    // @ts-expect-error: nobody answers it
    void (() => hooks.useRequest("reboot"));
    expectTypeOf(hooks.useChannel(null as "room:1" | null)).toEqualTypeOf<typeof room | null>();
    const move = useClientEvent(room, "cursor", ({ data }) => expectTypeOf(data).toEqualTypeOf<{ x: number }>());
    // @ts-expect-error: a cursor has a place
    void (() => move());
    // @ts-expect-error: clients of a room send no such thing
    useClientEvent(room, "shouting");
    // @ts-expect-error: no channel has this name
    hooks.useChannel("elsewhere");
    return null;
  };
  expect(Typed).toBeTypeOf("function");
});
