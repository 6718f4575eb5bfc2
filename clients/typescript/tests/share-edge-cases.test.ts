// Shares, options and memory of subscriptions under unusual conditions.

import { expect, test } from "vitest";
import { start, subscriber } from "./subscriber.js";
import { World, settle } from "./world.js";

test("options of another component do not replace the token and the metadata", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe({ metadata: { device: "phone" }, getToken: () => "t" });
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await room.subscribe({ since: start });
  await world.lose();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ token: "t", metadata: { device: "phone" } });
});
test("undefined options of a later share keep the earlier ones", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  void room.subscribe({ getToken: () => "t" });
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  await room.subscribe({ metadata: undefined });
  await world.lose();
  expect(world.socket.last("subscribe_channel")).toMatchObject({ token: "t" });
});
test("a refused presence update does not end the subscription after a reconnect", async () => {
  const { room, world } = await subscriber();
  room.presence.update({ big: "x".repeat(5000) }).catch(() => {});
  await settle();
  await world.socket.refuse("update_presence", "limit_exceeded");
  await world.lose();
  const { metadata } = world.socket.last("subscribe_channel") as any;
  if (JSON.stringify(metadata).length > 4096) await world.socket.refuse("subscribe_channel", "limit_exceeded");
  expect(room.state.name).not.toBe("unsubscribed");
});
test("a share that ends twice does not end a later subscription", async () => {
  const { room, world } = await subscriber();
  void room.unsubscribe();
  const a = room.subscribe(); 
  await settle();
  await world.socket.say({ type: "ack", id: world.socket.last("unsubscribe_channel")["id"] });
  await world.socket.ack("subscribe_channel", { channel: "room", ...start, recoverable: true });
  const share = await a;
  await room.unsubscribe().constructor;
  void room.subscribe();
  void share.unsubscribe(); void share.unsubscribe();
  await settle();
  expect(room.state.name).toBe("subscribing");
});
test("subscriptions created by the server are idle after they end, without history", async () => {
  const world = new World();
  const client = await world.connected();
  await world.socket.say({ type: "subscribed", channel: "x", recoverable: false }, { type: "unsubscribed", channel: "x" });
  const c = client.channel("x");
  expect(c.state.name).toBe("unsubscribed");
});
test("unsubscribing on a closed client sends nothing after the next connect", async () => {
  const { room, client, world } = await subscriber();
  client.close();
  await room.unsubscribe();
  void client.connect(); await settle(); await world.socket.accept();
  expect(world.socket.heard.filter((m) => m.type !== "ping")).toEqual([]);
});
test("all subscriptions are restored after many connection losses and rate limits", async () => {
  const world = new World();
  const client = await world.connected();
  for (let at = 0; at < 40; at++) void client.channel(`room-${at}`).subscribe().catch(() => {});
  for (let n = 0; n < 10; n++) { await world.lose(); await world.socket.say({ type: "error", id: world.socket.last("subscribe_channel")["id"], error_type: "rate_limited", message: "", timestamp: 1, temporary: true, details: { retry_after: 100 } }); }
  for (let r = 0; r < 20; r++) { await world.pass(200); await world.socket.say(...world.socket.all("subscribe_channel").map(({ id, channel }) => ({ type: "ack", id, data: { channel, recoverable: false } }))); }
  expect(Array.from({ length: 40 }, (_, at) => client.channel(`room-${at}`).state.name).filter((s) => s !== "subscribed")).toEqual([]);
});
