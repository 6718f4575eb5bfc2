// @vitest-environment happy-dom
// The Vue bindings under unusual conditions: getters, values that must not be watched, KeepAlive, scopes,
// proxies.

import { KeepAlive, createApp, createSSRApp, defineComponent, effectScope, h, reactive, ref, watchEffect } from "vue";
import { renderToString } from "vue/server-renderer";
import { expect, expectTypeOf, test, vi } from "vitest";
import { type ListedGap, type ListedMessage, createComposables, hauyna, provideClient, useChannel, useChannelState, useConnection, useEvent, useMessages, useTyping } from "../src/vue.js";
import { Chat } from "./chat.js";
import type { Chatter } from "./page.js";
import { eachVuePage, mount, remember, text, turn, unmount } from "./vue-page.js";

eachVuePage();

test("a getter whose dependencies change, but not its channel, keeps the list", async () => {
  const chat = new Chat();
  chat.answers = ({ type }) => type !== "channel_message";
  chat.keep("one");
  const width = ref(800);
  let list: ReturnType<typeof useMessages> | undefined;
  await mount(chat, () => {
    const room = useChannel(() => (width.value > 400 ? "room" : null));
    const own = useMessages(() => (width.value > 400 ? room.value : null));
    list = own;
    return () => h("p", own.messages.value.map((one) => (one.kind === "gap" ? "gap" : `${one.content} ${one.status}`)).join(", "));
  });
  void list?.publish("mine");
  await turn(chat);
  width.value = 801;
  await turn(chat);
  expect(text()).toBe("one sent, mine pending");
  expect(chat.socket.all("history")).toHaveLength(1);
});

test("the values that listeners and options read are not watched", async () => {
  const chat = await Chat.connected();
  const mood = ref("fine");
  const begun = vi.fn();
  chat.client.channel("room").onState(() => void mood.value);
  await mount(chat, () => {
    const room = useChannel("room", () => (begun(), { metadata: { mood: mood.value } }));
    useEvent(room, "message", () => {});
    return () => h("p", room.value?.state.name);
  });
  mood.value = "better";
  mood.value = "best";
  await turn(chat);
  expect(begun).toHaveBeenCalledTimes(1);
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
});

test("a component in KeepAlive stays subscribed, and the last component to unmount ends the subscription", async () => {
  const chat = new Chat();
  const isShown = ref(true);
  const Room = defineComponent(() => {
    const list = useMessages(useChannel("room"));
    return () => h("p", list.messages.value.map((one) => (one.kind === "gap" ? "gap" : String(one.content))).join(" "));
  });
  await mount(chat, () => () => h(KeepAlive, () => (isShown.value ? h(Room) : null)));
  isShown.value = false;
  await turn(chat);
  await chat.say("while hidden");
  isShown.value = true;
  await turn(chat);
  expect(text()).toBe("while hidden");
  expect(chat.socket.all("subscribe_channel")).toHaveLength(1);
  unmount();
  await turn(chat);
  expect(chat.client.channel("room").state.name).toBe("unsubscribed");
});

test("a reactive form is published and shown as it is at that moment", async () => {
  const chat = new Chat();
  chat.answers = ({ type }) => type !== "channel_message";
  let list: ReturnType<typeof useMessages> | undefined;
  await mount(chat, () => {
    list = useMessages(useChannel("room"));
    return () => null;
  });
  const form = reactive({ text: "hello", tags: ["a"] });
  void list?.publish(form);
  form.text = "";
  form.tags.length = 0;
  chat.answers = () => true;
  await turn(chat);
  expect(list?.messages.value).toMatchObject([{ status: "sent", content: { text: "hello", tags: ["a"] } }]);
  expect(chat.kept).toMatchObject([{ content: { text: "hello", tags: ["a"] } }]);
});

test("names may come from a reactive object, and a scope may stop while a channel subscribes", async () => {
  const chat = new Chat();
  chat.answers = ({ type }) => type !== "subscribe_channel";
  const place = reactive({ room: "a" as string | null });
  const scope = effectScope(true);
  await mount(chat, () => {
    scope.run(() => useChannel(() => place.room));
    return () => null;
  });
  for (const room of ["b", "a", null, "a"]) place.room = room;
  await turn(chat);
  scope.stop();
  chat.answers = () => true;
  await turn(chat);
  await turn(chat);
  expect(["a", "b"].map((name) => chat.client.channel(name).state.name)).toEqual(["unsubscribed", "unsubscribed"]);
});

test("the first render shows no closed connection, whichever component provides the client", async () => {
  const chat = new Chat();
  const shown: string[] = [];
  const Inside = defineComponent(() => {
    const state = useConnection();
    watchEffect(() => shown.push(state.value.name), { flush: "sync" });
    return () => state.value.name;
  });
  const app = remember(createApp(defineComponent(() => (provideClient(chat.client), () => h(Inside)))));
  app.mount(document.body.appendChild(document.createElement("main")));
  await turn(chat);
  expect(new Set(shown)).toEqual(new Set(["connecting", "connected"]));
});

test("the error explains that a component cannot use the client that it provides itself", () => {
  const chat = new Chat();
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const alone = createApp(defineComponent(() => (provideClient(chat.client), useConnection(), () => null)));
  expect(() => alone.mount(document.createElement("main"))).toThrow("in a component around this one");
  warn.mockRestore();
});

test("a server renders the same as the page before hydration, and hydration finds no difference", async () => {
  const chat = await Chat.connected(2);
  const Room = defineComponent(() => {
    const room = useChannel("room");
    const state = useConnection();
    const channel = useChannelState(room);
    const { messages, isLoading } = useMessages(room);
    return () => h("p", `${state.value.name} ${channel.value.name} ${messages.value.length} ${isLoading.value}`);
  });
  const html = await renderToString(createSSRApp(Room).use(hauyna, new Chat().client));
  expect(html).toBe("<p>connecting unsubscribed 0 true</p>");
  const warn = vi.spyOn(console, "warn");
  const complaints = vi.spyOn(console, "error");
  const main = document.body.appendChild(document.createElement("main"));
  main.innerHTML = html;
  const app = remember(createSSRApp(Room).use(hauyna, chat.client));
  app.mount(main);
  await turn(chat);
  expect(text()).toBe("connected subscribed 2 false");
  expect([...warn.mock.calls, ...complaints.mock.calls]).toEqual([]);
});

test("lists and typing have the types of their channel", () => {
  const { useChannel } = createComposables<Chatter>();
  const setup = () => {
    const room = useChannel("room:1");
    const { messages, publish } = useMessages(room);
    expectTypeOf(messages.value).toEqualTypeOf<readonly (ListedGap | ListedMessage<{ text: string }>)[]>();
    expectTypeOf(publish).parameter(0).toEqualTypeOf<{ text: string }>();
    useTyping(room);
    // @ts-expect-error: a cursor says nothing of typing
    useTyping(room, { event: "cursor" });
  };
  expect(setup).toBeTypeOf("function");
});
