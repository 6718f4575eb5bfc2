// @vitest-environment happy-dom
// The React bindings under unusual conditions: new options with each render, error boundaries, suspense,
// several clients.

import { Activity, Component, type ReactNode, StrictMode, Suspense, act, createElement as h, startTransition, use, useState } from "react";
import { type Root, createRoot } from "react-dom/client";
import { beforeEach, expect, expectTypeOf, test, vi } from "vitest";
import type { Client } from "../src/index.js";
import {
  HauynaProvider,
  type ListedGap,
  type ListedMessage,
  createHooks,
  useChannel,
  useChannelState,
  useConnection,
  useMessages,
  usePresence,
  useTyping,
} from "../src/react.js";
import { FakeServer } from "../src/testing.js";
import { Chat } from "./chat.js";
import { type Chatter, eachPage } from "./page.js";

let root: Root | undefined;

beforeEach(() => void vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true));
eachPage(async () => {
  await act(async () => root?.unmount());
  root = undefined;
});

async function render(chat: Chat, client: Client<any>, ...children: ReactNode[]): Promise<void> {
  root ??= createRoot(document.body.appendChild(document.createElement("main")));
  await act(async () => root?.render(h(StrictMode, null, h(HauynaProvider, { client }, ...children))));
  await turn(chat);
}

const turn = (chat: Chat) => act(() => chat.turn());
const text = () => document.querySelector("main")?.textContent;

function Room({ name = "room" as string | null, options = {} }) {
  const room = useChannel(name, { metadata: {}, ...options });
  const { messages } = useMessages(room, { pageSize: 10 });
  return h("p", null, [useChannelState(room).name, ...messages.map((one) => (one.kind === "gap" ? "gap" : String(one.content)))].join(" "));
}

test("the first render shows no closed connection", async () => {
  const chat = new Chat();
  const shown: string[] = [];
  const State = () => {
    const { name } = useConnection();
    shown.push(name);
    return null;
  };
  await render(chat, chat.client, h(State));
  expect(new Set(shown)).toEqual(new Set(["connecting", "connected"]));
});

test("options recreated with each render cause no new requests, and a signal ends the share", async () => {
  const chat = new Chat();
  const abort = new AbortController();
  const options = () => ({ signal: abort.signal, getToken: () => "t" });
  for (let n = 0; n < 5; n++) await render(chat, chat.client, h(Room, { options: options() }));
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
  await act(async () => abort.abort());
  await turn(chat);
  expect(text()).toBe("unsubscribed");
});

test("the name may change from a to b and back while the channel subscribes", async () => {
  const chat = new Chat();
  chat.answers = ({ type }) => type !== "subscribe_channel";
  for (const name of ["a", "b", "a"]) await render(chat, chat.client, h(Room, { name }));
  chat.answers = () => true;
  await turn(chat);
  await turn(chat);
  expect(["a", "b"].map((name) => chat.client.channel(name).state.name)).toEqual(["subscribed", "unsubscribed"]);
  expect(text()).toBe("subscribed");
});

test("a component that throws ends its own subscription and no other", async () => {
  const chat = new Chat();
  vi.spyOn(console, "error").mockImplementation(() => {});
  class Boundary extends Component<{ children?: ReactNode }> {
    override state = { hasFailed: false };
    static getDerivedStateFromError = () => ({ hasFailed: true });
    override render = () => (this.state.hasFailed ? "failed" : this.props.children);
  }
  const Fails = ({ now }: { now: boolean }) => {
    useMessages(useChannel("b"));
    if (now) throw new Error("broken");
    return null;
  };
  const page = (now: boolean) => [h(Room, { key: 1, name: "a" }), h(Boundary, { key: 2 }, h(Fails, { now }))];
  await render(chat, chat.client, ...page(false));
  expect(chat.client.channel("b").state.name).toBe("subscribed");
  await render(chat, chat.client, ...page(true));
  expect(text()).toBe("subscribedfailed");
  expect(["a", "b"].map((name) => chat.client.channel(name).state.name)).toEqual(["subscribed", "unsubscribed"]);
  vi.restoreAllMocks();
});

test("a component that suspends after its hooks subscribes when it mounts, and not if it never mounts", async () => {
  const chat = new Chat();
  let resolve = (_: string) => {};
  const data = new Promise<string>((found) => (resolve = found));
  const Slow = ({ from }: { from: Promise<string> }) => {
    const room = useChannel("room");
    useMessages(room);
    return h("p", null, `${use(from)} ${useChannelState(room).name}`);
  };
  await render(chat, chat.client, h(Suspense, { fallback: "waits" }, h(Slow, { from: data })));
  expect(text()).toBe("waits");
  expect(chat.socket.all("subscribe_channel")).toEqual([]);
  await act(async () => resolve("there"));
  await turn(chat);
  expect(text()).toBe("there subscribed");
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("a hidden component unsubscribes, and catches up when it is shown again", async () => {
  const chat = new Chat();
  const page = (mode: "visible" | "hidden") => h(Activity, { mode, children: h(Room) });
  await render(chat, chat.client, page("visible"));
  await chat.say("one");
  await render(chat, chat.client, page("hidden"));
  expect(chat.client.channel("room").state.name).toBe("unsubscribed");
  chat.keep("two");
  await render(chat, chat.client, page("visible"));
  expect(text()).toBe("subscribed one two");
});

test("another client in the provider replaces the first, and two providers have two connections", async () => {
  const one = new Chat();
  const other = new Chat();
  one.keep("of one");
  other.keep("of the other");
  await render(one, one.client, h(Room));
  expect(text()).toBe("subscribed of one");
  await render(other, other.client, h(Room));
  await turn(one);
  await turn(other);
  expect(text()).toBe("subscribed of the other");
  expect(one.client.state.name).toBe("closed");
  await render(other, other.client, h(Room), h(HauynaProvider, { client: one.client, children: h(Room) }));
  await turn(one);
  expect(text()).toBe("subscribed of the othersubscribed of one");
});

test("mounted components work when the client is closed and connected again", async () => {
  const chat = new Chat();
  await render(chat, chat.client, h(Room));
  await act(async () => chat.client.close());
  await turn(chat);
  chat.keep("missed");
  await act(async () => void chat.client.connect());
  await turn(chat);
  expect(text()).toBe("subscribed missed");
});

test("all parts of a page show an external update at the same time, even in a transition", async () => {
  const chat = new Chat();
  let go: (n: number) => void = () => {};
  const torn: unknown[] = [];
  const Count = ({ id, n }: { id: number; n: number }) => {
    const { length } = useMessages(useChannel("room")).messages;
    return h("i", { "data-id": id, "data-n": n }, String(length));
  };
  const All = () => {
    const [n, set] = useState(0);
    go = set;
    const counts = [...document.querySelectorAll("i")].map((one) => one.textContent);
    if (new Set(counts).size > 1) torn.push(counts);
    return Array.from({ length: 5 }, (_, id) => h(Count, { key: id, id, n }));
  };
  await render(chat, chat.client, h(All));
  for (let n = 1; n <= 10; n++) {
    await act(async () => startTransition(() => go(n)));
    await chat.say(n);
    await turn(chat);
  }
  expect(torn).toEqual([]);
  expect(text()).toBe("1010101010");
});

test("a thousand mounts leave no subscription, timer or listener", async () => {
  const chat = new Chat();
  const All = () => {
    const room = useChannel("room");
    useMessages(room);
    usePresence(room);
    useTyping(room);
    useConnection();
    return null;
  };
  await render(chat, chat.client, null);
  const { timers } = chat.world;
  for (let n = 0; n < 10; n++) {
    await render(chat, chat.client, Array.from({ length: 100 }, (_, key) => h(All, { key: `${n} ${key}` })));
  }
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
  await render(chat, chat.client, null);
  expect(chat.client.channel("room").state.name).toBe("unsubscribed");
  expect(chat.world.timers).toBe(timers);
  expect(vi.getTimerCount()).toBe(0);
});

test("a fake server controls the time of components, too", async () => {
  const server = new FakeServer();
  const client = server.client({ user: "ana" });
  const Lines = () => {
    const room = useChannel("room");
    const typing = useTyping(room);
    const lines = useMessages(room).messages.map((one) => (one.kind === "gap" ? "gap" : String(one.content)));
    return h("p", null, [...lines, ...typing.users].join(" "));
  };
  root = createRoot(document.body.appendChild(document.createElement("main")));
  await act(async () => root?.render(h(HauynaProvider, { client }, h(Lines))));
  await act(() => server.pass(16));
  await server.channel("room").publish("hi", { user: "bob" });
  await server.channel("room").send("typing", true, "cem");
  expect(text()).toBe("");
  await act(() => server.pass(16));
  expect(text()).toBe("hi cem");
  await act(() => server.pass(5016));
  expect(text()).toBe("hi");
  await act(async () => root?.unmount());
  root = undefined;
  await server.pass(0);
  expect(server.users).toEqual([]);
});

test("lists and typing have the types of their channel", () => {
  const hooks = createHooks<Chatter>();
  const Typed = () => {
    const room = hooks.useChannel("room:1");
    const { messages, publish } = useMessages(room);
    expectTypeOf(messages).toEqualTypeOf<readonly (ListedGap | ListedMessage<{ text: string }>)[]>();
    expectTypeOf(publish).parameter(0).toEqualTypeOf<{ text: string }>();
    useTyping(room);
    // @ts-expect-error: a cursor says nothing of typing
    useTyping(room, { event: "cursor" });
    return null;
  };
  expect(Typed).toBeTypeOf("function");
});
