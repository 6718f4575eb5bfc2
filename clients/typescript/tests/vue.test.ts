// @vitest-environment happy-dom
// The Vue bindings in a page: changing names, ending scopes, watched values; and nothing on a rendering
// server.

import { createApp, createSSRApp, defineComponent, effectScope, h, ref, watch } from "vue";
import { renderToString } from "vue/server-renderer";
import { expect, expectTypeOf, test, vi } from "vitest";
import { type Channel, Client } from "../src/index.js";
import {
  createComposables,
  hauyna,
  provideClient,
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
} from "../src/vue.js";
import { Chat } from "./chat.js";
import type { Chatter } from "./page.js";
import { eachVuePage, mount, remember, text, turn, unmount } from "./vue-page.js";

eachVuePage();

test("a room shows live and older messages over one socket", async () => {
  const chat = new Chat();
  for (let n = 1; n <= 3; n++) chat.keep(`#${n}`);
  let list: ReturnType<typeof useMessages> | undefined;
  await mount(chat, () => {
    const connection = useConnection();
    const room = useChannel("room");
    const state = useChannelState(room);
    const own = useMessages(room, { pageSize: 2 });
    list = own;
    const texts = () => own.messages.value.map((one) => (one.kind === "gap" ? "gap" : String(one.content)));
    return () => h("p", [connection.value.name, state.value.name, ...texts()].join(" "));
  });
  expect(text()).toBe("connected subscribed #2 #3");
  void list?.loadOlder();
  void list?.publish("mine");
  await turn(chat);
  expect(text()).toBe("connected subscribed #1 #2 #3 mine");
  expect(list?.hasOlder.value).toBe(false);
  expect(chat.world.sockets).toHaveLength(1);
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("a changed name changes the channel and its listeners", async () => {
  const chat = new Chat();
  const name = ref<string | null>("a");
  const heard: unknown[] = [];
  await mount(chat, () => {
    const room = useChannel(name);
    useEvent(room, "message", ({ content }) => heard.push(content));
    return () => h("p", room.value?.name ?? "none");
  });
  const say = (channel: string) => chat.socket.say({ type: "message", channel, content: channel, timestamp: 1, offset: 1 });
  await say("a");
  name.value = "b";
  await turn(chat);
  expect(text()).toBe("b");
  await say("b");
  name.value = null;
  await turn(chat);
  expect(text()).toBe("none");
  expect(heard).toEqual(["a", "b"]);
  expect(["a", "b"].map((of) => chat.client.channel(of).state.name)).toEqual(["unsubscribed", "unsubscribed"]);
});

test("a scope outside of components ends its subscription, and its values can be watched", async () => {
  const chat = await Chat.connected();
  const seen: number[] = [];
  const app = remember(createApp({ render: () => null }).use(hauyna, chat.client));
  const scope = effectScope();
  app.mount(document.createElement("main"));
  app.runWithContext(() =>
    scope.run(() => {
      const room = useChannel(() => "room");
      const { count } = usePresence(room);
      watch(count, (now) => seen.push(now), { flush: "sync" });
    }),
  );
  await turn(chat);
  const user = { status: "online", metadata: {}, connections: [] };
  await chat.socket.say({ type: "presence_state", channel: "room", users: { ana: user, bob: user }, count: 2, offset: 1 });
  await turn(chat);
  expect(seen).toEqual([2]);
  scope.stop();
  await turn(chat);
  expect(chat.client.channel("room").state.name).toBe("unsubscribed");
});

test("the client closes when the application unmounts, except one that was connected before", async () => {
  const chat = new Chat();
  await mount(chat, () => () => null);
  unmount();
  await turn(chat);
  expect(chat.client.state.name).toBe("closed");
  const other = await Chat.connected();
  await mount(other, () => () => null);
  unmount();
  await turn(other);
  expect(other.client.state.name).toBe("connected");
});

test("a component can provide a client", async () => {
  const chat = new Chat();
  const Inside = defineComponent(() => {
    const state = useConnection();
    return () => h("p", `${state.value.name}, ${useClient().user}`);
  });
  const Provider = defineComponent(() => {
    provideClient(chat.client);
    return () => h(Inside);
  });
  const app = remember(createApp(Provider));
  app.mount(document.body.appendChild(document.createElement("main")));
  await turn(chat);
  expect(text()).toBe("connected, ana");
});

test("a request reports its result, and typing can be sent", async () => {
  const chat = new Chat();
  let ask: () => Promise<unknown> = async () => {};
  let start = () => {};
  await mount(chat, () => {
    const { request, reply, isPending } = useRequest<{ name: string }, { name: string }>("rename");
    ask = () => request({ name: "Ana" });
    const { users, startTyping } = useTyping(useChannel("room"));
    start = startTyping;
    return () => h("p", `${isPending.value ? "pending" : reply.value?.name} ${users.value.length}`);
  });
  start();
  chat.answers = () => false;
  void ask();
  await turn(chat);
  expect(text()).toBe("pending 0");
  await chat.socket.ack("rename", { name: "Ana!" });
  await turn(chat);
  expect(text()).toBe("Ana! 0");
});

test("a server renders the state before the connection, and opens no connection", async () => {
  const sockets = vi.fn();
  vi.stubGlobal("WebSocket", sockets);
  vi.stubGlobal("document", undefined);
  const page = createSSRApp(
    defineComponent(() => {
      const room = useChannel("room");
      const { messages, isLoading } = useMessages(room);
      const state = useConnection();
      return () => h("p", `${state.value.name} ${messages.value.length} ${isLoading.value}`);
    }),
  ).use(hauyna, new Client("/chat"));
  const html = await renderToString(page);
  vi.unstubAllGlobals();
  expect(html).toBe("<p>connecting 0 true</p>");
  expect(sockets).not.toHaveBeenCalled();
});

test("a composable without a client throws an error about the missing client", async () => {
  const Alone = defineComponent(() => () => h("p", useClient().state.name));
  await expect(renderToString(createSSRApp(Alone))).rejects.toThrow("no client is provided");
});

test("the contract types the composables in one place", () => {
  const composables = createComposables<Chatter>();
  const setup = () => {
    const room = composables.useChannel("room:1");
    type Room = Channel<{ message: { text: string }; closing: { minutes: number } }, { cursor: { x: number }; typing: boolean }>;
    expectTypeOf(room.value).toEqualTypeOf<Room | null>();
    useEvent(room, "closing", ({ minutes }) => expectTypeOf(minutes).toEqualTypeOf<number>());
    // @ts-expect-error: no message of a room has this type
    useEvent(room, "shouting", () => {});
    const [first] = useMessages(room).messages.value;
    if (first?.kind === "message") expectTypeOf(first.content).toEqualTypeOf<{ text: string }>();
    const { reply } = composables.useRequest("rename");
    expectTypeOf(reply.value).toEqualTypeOf<{ name: string } | undefined>();
    useClientEvent(room, "cursor", ({ data }) => expectTypeOf(data).toEqualTypeOf<{ x: number }>())({ x: 1 });
    // @ts-expect-error: no channel has this name
    composables.useChannel(() => "elsewhere" as const);
  };
  expect(setup).toBeTypeOf("function");
});
