// The examples of the guides for moving from pusher-js, Socket.IO and Supabase, with the fake server.

import { afterEach, expect, test, vi } from "vitest";
import { Client, type Device } from "../src/index.js";
import { FakeServer, Refusal } from "../src/testing.js";

afterEach(() => vi.useRealTimers());

test("subscribe may be called before `connect`, but not on a closed client", async () => {
  const server = new FakeServer();
  const client = server.client();
  const room = client.channel("room:1");
  const subscribed = room.subscribe();
  void client.connect();
  expect((await subscribed).recoverable).toBe(true);
  client.close();
  await expect(client.channel("room:2").subscribe()).rejects.toMatchObject({ kind: "closed" });
});

test("`join` is also emitted for all members of the first list, and `change` follows last", async () => {
  const server = new FakeServer();
  const other = await server.connected({ user: "bob" });
  await other.channel("room:1").subscribe();
  const client = await server.connected({ user: "ana" });
  const room = client.channel("room:1");
  const came: string[] = [];
  let isListed = false;
  room.presence.on("join", ({ user }) => came.push(`${user}${isListed ? " later" : ""}`));
  room.presence.on("change", () => (isListed = true));
  await room.subscribe();
  await server.pass(0);
  const third = await server.connected({ user: "cem" });
  await third.channel("room:1").subscribe();
  expect(came.sort()).toEqual(["ana", "bob", "cem later"]);
  expect(room.presence.users.get(client.user ?? "")?.user).toBe("ana");
  expect(room.presence.count).toBe(3);
});

test("the metadata of a subscription belongs to the connection, not to the user", async () => {
  const server = new FakeServer();
  const client = await server.connected({ user: "ana" });
  const room = client.channel("room:1");
  await room.subscribe({ metadata: { name: "Ana" } });
  await server.pass(0);
  const [present] = room.presence.users.values();
  expect(present?.metadata).not.toHaveProperty("name");
  expect(present?.devices?.map(({ metadata }: Device) => metadata)).toEqual([{ name: "Ana" }]);
  await room.presence.update({ name: "Ana B." });
  const states = [...room.presence.users.values()].flatMap(({ devices = [] }) => devices.map(({ metadata }) => metadata));
  expect(states).toEqual([{ name: "Ana B." }]);
});

test("listeners survive unsubscribing and closing, and subscriptions survive closing", async () => {
  const server = new FakeServer();
  const client = await server.connected({ user: "ana" });
  const room = client.channel("room:1");
  const heard: unknown[] = [];
  const off = room.on("message", ({ content }) => heard.push(content));
  await room.subscribe();
  client.close();
  await client.connect();
  await vi.waitFor(() => expect(room.state.name).toBe("subscribed"));
  await server.channel("room:1").publish("after closing");
  await room.unsubscribe();
  await server.channel("room:1").publish("meanwhile");
  await room.subscribe();
  await server.channel("room:1").publish("again");
  off();
  await server.channel("room:1").publish("unheard");
  expect(heard).toEqual(["after closing", "again"]);
});

test("a listener for one message removes itself", async () => {
  const server = new FakeServer();
  const client = await server.connected();
  const room = client.channel("room:1");
  await room.subscribe();
  const heard: unknown[] = [];
  const off = room.on("message", ({ content }) => {
    off();
    heard.push(content);
  });
  await server.channel("room:1").publish(1);
  await server.channel("room:1").publish(2);
  expect(heard).toEqual([1]);
});

test("an event without a handler is refused", async () => {
  const server = new FakeServer();
  const client = await server.connected();
  await expect(client.request("typo", {})).rejects.toMatchObject({ kind: "refused", type: "unknown_event" });
});

test("`connect` fails on a permanent refusal, and the client is closed with the reason", async () => {
  const server = new FakeServer({
    authenticate: () => {
      throw new Refusal("unauthorized", "who are you?");
    },
  });
  const client = new Client("wss://app.example/live", server.clientOptions);
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed" });
  expect(client.state).toMatchObject({ name: "closed", code: 3500 });
});

test("publishing without a subscription is refused, and right after `subscribe` is not", async () => {
  const server = new FakeServer();
  const client = await server.connected();
  const room = client.channel("room:1");
  await expect(room.publish("hi")).rejects.toMatchObject({ type: "not_subscribed" });
  void room.subscribe();
  expect(await room.publish("hi")).toMatchObject({ offset: 1 });
});
