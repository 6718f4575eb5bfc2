// Message lists and presence under unusual conditions: histories that fail, events in an unusual order.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createMessageList, createChannel, createPresence, holdConnection } from "../src/stores.js";
import { Chat, fakeTimers } from "./chat.js";

beforeEach(fakeTimers);
afterEach(() => vi.useRealTimers());

async function listed(count: number, options = {}, prepare = (_: Chat) => {}) {
  const chat = await Chat.connected(count);
  prepare(chat);
  const room = chat.client.channel("room");
  const list = createMessageList(chat.client, room, options);
  const off = list.subscribe(() => {});
  void room.subscribe().catch(() => {});
  await chat.turn();
  const shown = () =>
    list.get().messages.map((one) => (one.kind === "gap" ? `gap: ${one.gap.reason}` : `${one.content}${one.status === "sent" ? "" : ` ${one.status}`}`));
  return { chat, room, list, off, shown };
}

test("an unannounced change of the epoch duplicates and reorders no messages", async () => {
  const { chat, shown } = await listed(3);
  chat.answers = () => false;
  chat.epoch = "F";
  chat.kept = [];
  for (const n of [1, 2, 3, 4]) await chat.say(`new ${n}`);
  // The server has lost the history of epoch E.
  await chat.socket.refuse("history", "validation_error", { details: { reason: "epoch_changed" } });
  const asked = new Set(chat.socket.all("history").slice(0, 1));
  chat.answers = (m) => !asked.has(m);
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "#3", "gap: epoch_changed", "new 1", "new 2", "new 3", "new 4"]);
});

test("older messages stay older when the numbering continues under another epoch", async () => {
  const { chat, list, shown } = await listed(4, { pageSize: 2 });
  chat.epoch = "F";
  await chat.socket.say({ type: "subscribed", channel: "room", ...chat.end, recoverable: true, recovered: true });
  await chat.say("live");
  await chat.turn();
  expect(shown()).toEqual(["#3", "#4", "live"]);
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "#3", "#4", "live"]);
});

test("a gap after the numbering continued under another epoch duplicates nothing", async () => {
  const { chat, shown } = await listed(2);
  chat.epoch = "F";
  await chat.socket.say({ type: "subscribed", channel: "room", ...chat.end, recoverable: true, recovered: true });
  await chat.say("live");
  chat.answers = ({ type }) => type !== "subscribe_channel";
  await chat.lose(() => chat.keep("missed"));
  await chat.socket.ack("subscribe_channel", { channel: "room", ...chat.end, recoverable: true, recovered: false, reason: "too_many" });
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "live", "gap: too_many", "missed"]);
});

test("an own message that cannot be encoded hides no other", async () => {
  const { chat, list, shown } = await listed(1);
  const circle: any = { toString: () => "circle" };
  circle.self = circle;
  await list.publish(circle);
  await chat.say("other", "ana");
  await chat.turn();
  expect(shown()).toEqual(["#1", "other", "circle failed"]);
});

test("a refused message stays even if another window has published the same one", async () => {
  const { chat, list, shown } = await listed(0);
  chat.answers = ({ type }) => type !== "channel_message";
  const taken = list.publish("ok");
  await chat.turn();
  await chat.say("ok", "ana");
  await chat.socket.refuse("channel_message", "rate_limited", { temporary: true });
  await chat.turn();
  expect(await taken).toBe(false);
  expect(shown()).toEqual(["ok", "ok failed"]);
});

test("a refused message is not matched with another window's", async () => {
  const { chat, list, shown } = await listed(0);
  chat.answers = ({ type }) => type !== "channel_message";
  void list.publish("ok");
  await chat.turn();
  await chat.socket.refuse("channel_message", "permission_denied");
  await chat.turn();
  await chat.say("ok", "ana");
  await chat.turn();
  expect(shown()).toEqual(["ok", "ok failed"]);
});

test("a listener may unsubscribe and subscribe again", async () => {
  const chat = await Chat.connected(2);
  const room = chat.client.channel("room");
  let once = true;
  room.onState(({ name }) => {
    if (name === "subscribed" && once) { once = false; void room.unsubscribe(); }
  });
  const list = createMessageList(chat.client, room);
  list.subscribe(() => {});
  room.subscribe().catch(() => {});
  await chat.turn();
  chat.keep("between");
  room.subscribe().catch(() => {});
  await chat.turn();
  expect(list.get().messages.map((m) => (m as any).content)).toEqual(["#1", "#2", "between"]);
  expect(list.get().isLoading).toBe(false);
});

test("own messages are listed while the first page is loading", async () => {
  const { chat, list, shown } = await listed(2, {}, (chat) => (chat.answers = ({ type }) => type !== "history"));
  void list.publish("mine");
  await chat.turn();
  chat.answers = () => true;
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "mine"]);
});

test("a list recovers from a connection loss during its first page", async () => {
  const { chat, shown } = await listed(2, {}, (chat) => (chat.answers = ({ type }) => type !== "history"));
  chat.answers = () => true;
  await chat.lose(() => chat.keep("missed"));
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "missed"]);
});

test("a channel store and a list continue after close and connect", async () => {
  const chat = new Chat();
  chat.keep("#1");
  const c = createChannel(chat.client, "room").subscribe(() => {});
  const list = createMessageList(chat.client, chat.client.channel("room"));
  list.subscribe(() => {});
  const end = holdConnection(chat.client);
  await chat.turn();
  end();
  await chat.turn();
  chat.keep("away");
  holdConnection(chat.client);
  await chat.turn();
  await chat.say("live");
  await chat.turn();
  expect(list.get().messages.map((m) => (m as any).content)).toEqual(["#1", "away", "live"]);
  c();
});

test("a channel that the server has ended has no presence", async () => {
  const chat = await Chat.connected();
  const room = chat.client.channel("room");
  createChannel(chat.client, "room").subscribe(() => {});
  const store = createPresence(room);
  store.subscribe(() => {});
  await chat.turn();
  await chat.socket.say({ type: "presence_state", channel: "room", users: { ana: { status: "online", metadata: {}, connections: [] } }, count: 1, offset: 1 });
  await chat.socket.say({ type: "unsubscribed", channel: "room" });
  await chat.turn();
  expect(store.get().count).toBe(0);
});

test("a channel store without listeners leaves no share of a closed client", async () => {
  const chat = new Chat();
  const store = createChannel(chat.client, "room");
  const a = store.subscribe(() => {}); a(); const b = store.subscribe(() => {}); b();
  await chat.turn();
  holdConnection(chat.client);
  await chat.turn();
  expect(chat.socket.all("subscribe_channel")).toHaveLength(0);
});

test("a channel store subscribes again after close and a temporary refusal", async () => {
  const chat = await Chat.connected();
  createChannel(chat.client, "room").subscribe(() => {});
  await chat.turn();
  chat.client.close();
  void chat.client.connect();
  chat.answers = () => false;
  await chat.turn();
  await chat.socket.refuse("subscribe_channel", "unavailable", { temporary: true });
  await chat.world.pass(2000);
  chat.answers = (m) => m !== chat.socket.all("subscribe_channel")[0];
  await chat.turn();
  expect(chat.client.channel("room").state.name).toBe("subscribed");
});
