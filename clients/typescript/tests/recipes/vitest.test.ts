import { FakeServer, Refusal } from "hauyna/testing";
import { expect, test } from "vitest";
import { type Chat, Room } from "./room.js";

test("a room shows messages, and recovers those that were sent during a connection loss", async () => {
  const server = new FakeServer<Chat>();
  const room = new Room(await server.connected({ user: "ana" }), "1");
  await room.open();
  await server.channel("room:1").publish({ text: "hi" }, { user: "bob" });
  await server.cut();
  expect(room.isCurrent).toBe(false);
  await server.channel("room:1").publish({ text: "are you there?" }, { user: "bob" });
  await server.restore();
  expect(room.lines).toEqual(["bob: hi", "bob: are you there?"]);
});

test("a message of the user is published", async () => {
  const server = new FakeServer<Chat>();
  const room = new Room(await server.connected({ user: "ana" }), "1");
  await room.open();
  await room.say("hello");
  expect(server.requests("channel_message")).toMatchObject([{ channel: "room:1", content: { text: "hello" } }]);
  expect(server.channel("room:1").messages).toMatchObject([{ user: "ana", content: { text: "hello" } }]);
});

test("a room shows why the server refused the user", async () => {
  const server = new FakeServer<Chat>();
  server.refuse("subscribe_channel", new Refusal("permission_denied", "members only"));
  const room = new Room(await server.connected(), "1");
  await room.open();
  expect(room.error).toBe("members only");
});
