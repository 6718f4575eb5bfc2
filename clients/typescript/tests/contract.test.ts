// What the compiler accepts and refuses because of a contract. Each `@ts-expect-error` is an error that must
// exist.

import { expect, expectTypeOf, test } from "vitest";
import { type AnyChannel, type AnyClient, type Channel, Client, type Publication } from "../src/index.js";
import { World } from "./world.js";

interface Room {
  message: { text: string };
  typing: { user: string };
}
interface Chat {
  requests: { rename: { data: { name: string }; reply: { name: string } }; now: { data: { zone?: string }; reply: number } };
  clientRequests: { confirm: { data: { question: string }; reply: "yes" | "no" } };
  messages: { welcome: { motd: string } };
  channels: { "room:{id}": Room; "a:{x}:b:{*rest}": { message: number }; lobby: { message: string } };
}

const client = new World().client() as Client as Client<Chat>;
const open: Client = new World().client();

test("channels are typed by their names, or by an explicit type", () => {
  expectTypeOf(client.channel("room:1")).toEqualTypeOf<Channel<Room>>();
  expectTypeOf(client.channel("a:1:b:2:3")).toEqualTypeOf<Channel<{ message: number }>>();
  expectTypeOf(client.channel<Room>("elsewhere")).toEqualTypeOf<Channel<Room>>();
  client.channel("room:1").on("message", (m) => expectTypeOf(m).toEqualTypeOf<Publication<{ text: string }>>());
  client.channel("room:1").on("typing", (m) => expectTypeOf(m.user).toEqualTypeOf<string>());
  client.channel("room:1").on("channel_event", (m) => expectTypeOf(m.event).toMatchTypeOf<string>());
  // @ts-expect-error: no message of a room has this type
  client.channel("room:1").on("shouting", () => {});
  // @ts-expect-error: a room's content is an object
  client.channel("room:1").publish("text").catch(() => {});
  client.channel("lobby").publish("text").catch(() => {});
  open.channel("anything").publish(17).catch(() => {});
  open.channel("anything").on("whatever", (m) => expectTypeOf(m["colour"]).toEqualTypeOf<unknown>());
  open.channel("anything").on("whatever", (m) => expectTypeOf(m.timestamp).toEqualTypeOf<number>());
});

test("the history is typed by the types of its messages", async () => {
  const told = async (room: Channel<Room>, lobby: Channel<{ message: string }>, any: Channel) => {
    for (const message of (await room.history()).messages) {
      if (message.type === "message") expectTypeOf(message.content.text).toEqualTypeOf<string>();
      else expectTypeOf(message.user).toEqualTypeOf<string>();
      // @ts-expect-error: not every message has a content
      message.content?.text;
    }
    for (const { content } of (await lobby.history()).messages) expectTypeOf(content).toEqualTypeOf<string>();
    for (const { content } of (await any.history()).messages) expectTypeOf(content).toEqualTypeOf<unknown>();
  };
  expect(told).toBeTypeOf("function");
});

test("requests, client requests and messages are typed by their names", () => {
  expectTypeOf(client.request<"rename">).returns.toEqualTypeOf<Promise<{ name: string }>>();
  client.request("now").catch(() => {});
  // @ts-expect-error: it needs a name
  client.request("rename").catch(() => {});
  // @ts-expect-error: nobody answers it
  client.request("reboot", {}).catch(() => {});
  client.onRequest("confirm", ({ question }) => (question ? "yes" : "no"));
  // @ts-expect-error: an answer that is none
  client.onRequest("confirm", () => "perhaps");
  client.on("welcome", ({ motd }) => motd.length);
  client.on("private", ({ from }) => expectTypeOf(from).toEqualTypeOf<string | undefined>());
  // @ts-expect-error: no such message
  client.on("goodbye", () => {});
  open.on("anything", ({ type }) => type);
  open.request("anything", { at: 1 }).catch(() => {});
  expect(client).toBeInstanceOf(Client);
});

test("a channel that the contract lacks does not compile, and client events are typed", () => {
  interface Board extends Chat {
    clientEvents: { "room:{id}": { cursor: { x: number }; typing: undefined } };
  }
  const board = open as unknown as Client<Board>;
  // @ts-expect-error: no pattern of the contract has this name
  client.channel("elsewhere");
  const id: string = "7";
  client.channel(`room:${id}`).publish({ text: "typed by its pattern" }).catch(() => {});
  // @ts-expect-error: a room's content has a text
  client.channel(`room:${id}`).publish({ txt: 1 }).catch(() => {});
  const name: string = "known at run time";
  client.channel(name);
  const room = board.channel("room:1");
  room.send("cursor", { x: 1 });
  room.send("typing");
  room.onEvent("cursor", ({ data, user }) => expectTypeOf([data.x, user]).toEqualTypeOf<(string | number)[]>());
  // @ts-expect-error: a cursor has a place
  room.send("cursor");
  // @ts-expect-error: nobody sends this
  room.send("shout", 1);
  open.channel("anything").send("whatever");
});

test("functions that take any client and channel accept those of any contract", () => {
  const helper = (any: AnyClient, channel: AnyChannel) => [any.state, channel.name];
  helper(client, client.channel("room:1"));
  helper(open, open.channel("anything"));
  expect(helper(new Client("ws://x"), open.channel("y"))[1]).toBe("y");
});
