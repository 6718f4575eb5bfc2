// The list of a channel's messages: its content, its order, and this client's own messages.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Channel } from "../src/index.js";
import { type ListedMessage, createMessageList } from "../src/stores.js";
import { Chat, fakeTimers } from "./chat.js";

beforeEach(fakeTimers);
afterEach(() => vi.useRealTimers());

/** Returns a list of a channel with this many messages. */
async function listed(count: number, options = {}, prepare = (_: Chat) => {}) {
  const chat = await Chat.connected(count);
  prepare(chat);
  const room = chat.client.channel("room");
  const list = createMessageList(chat.client, room as Channel<{ message: string }>, options);
  let changes = 0;
  const off = list.subscribe(() => changes++);
  void room.subscribe().catch(() => {});
  await chat.turn();
  const shown = () =>
    list.get().messages.map((one) => (one.kind === "gap" ? `gap: ${one.gap.reason}` : `${one.content}${one.status === "sent" ? "" : ` ${one.status}`}`));
  const message = (at: number) => list.get().messages.at(at) as ListedMessage<string>;
  return { chat, room, list, off, shown, message, changes: () => changes };
}

test("shows the newest page of the history, then live messages", async () => {
  const { chat, list, shown } = await listed(5, { pageSize: 3 });
  expect(shown()).toEqual(["#3", "#4", "#5"]);
  expect(list.get()).toMatchObject({ hasOlder: true, isLoading: false, error: undefined });
  await chat.say("live");
  await chat.turn();
  expect(shown()).toEqual(["#3", "#4", "#5", "live"]);
});

test("lists older pages before it, up to the beginning", async () => {
  const { chat, list, shown } = await listed(5, { pageSize: 2 });
  void list.loadOlder();
  expect(list.get().isLoading).toBe(true);
  await chat.turn();
  expect(shown()).toEqual(["#2", "#3", "#4", "#5"]);
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "#3", "#4", "#5"]);
  expect(list.get().hasOlder).toBe(false);
  void list.loadOlder();
  await chat.turn();
  expect(chat.socket.all("history")).toHaveLength(3);
});

test("skips pages that contain only messages of the application", async () => {
  const { chat, list, shown } = await listed(20, { pageSize: 2 }, (chat) => {
    chat.kept = chat.kept.map((one) => (one.offset > 3 && one.offset !== 12 ? { ...one, type: "order_changed" } : one));
  });
  const turns = async () => {
    for (let n = 0; n < 8; n++) await chat.turn();
  };
  await turns();
  expect(shown()).toEqual(["#12"]);
  void list.loadOlder();
  await turns();
  expect(shown()).toEqual(["#3", "#12"]);
  void list.loadOlder();
  await turns();
  expect(shown()).toEqual(["#1", "#2", "#3", "#12"]);
  expect(list.get()).toMatchObject({ hasOlder: false, isLoading: false });
});

test("a message of the history that also arrives live is listed once", async () => {
  const { chat, shown } = await listed(2, {}, (chat) => (chat.answers = ({ type }) => type !== "history"));
  await chat.say("both");
  chat.answers = () => true;
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "both"]);
});

test("an own message is listed at once, and only once", async () => {
  const { chat, list, shown, message } = await listed(1);
  chat.answers = () => false;
  const taken = list.publish("mine");
  expect(shown()).toEqual(["#1", "mine pending"]);
  const { key } = message(1);
  await chat.say("theirs");
  await chat.turn();
  expect(shown()).toEqual(["#1", "theirs", "mine pending"]);
  expect(chat.socket.last("channel_message")).toMatchObject({ content: "mine", key, echo: false });
  chat.answers = () => true;
  await chat.turn();
  expect(await taken).toBe(true);
  expect(shown()).toEqual(["#1", "theirs", "mine"]);
  expect(message(2)).toMatchObject({ key, status: "sent", offset: 3, user: "ana" });
});

test("an answer that overtakes an earlier message places the own message after it", async () => {
  const { chat, list, shown } = await listed(1);
  const earlier = chat.keep("earlier");
  void list.publish("mine");
  await chat.turn();
  expect(shown()).toEqual(["#1", "mine"]);
  await chat.socket.say(earlier);
  await chat.turn();
  expect(shown()).toEqual(["#1", "earlier", "mine"]);
});

test("an own message whose echo arrives anyway is listed once", async () => {
  const { chat, list, shown } = await listed(1);
  void list.publish("mine");
  await chat.turn();
  await chat.socket.say(chat.kept.at(-1) as object);
  await chat.turn();
  expect(shown()).toEqual(["#1", "mine"]);
});

test("an own message that is recovered before its answer is listed once", async () => {
  const { chat, list, shown, message } = await listed(1);
  chat.answers = ({ type }) => type !== "channel_message";
  void list.publish("mine");
  await chat.turn();
  const { key } = message(1);
  await chat.lose(() => chat.keep("mine", "ana"));
  expect(shown()).toEqual(["#1", "mine"]);
  expect(message(1)).toMatchObject({ key, status: "sent", offset: 2 });
  await chat.socket.ack("channel_message", chat.end);
  await chat.turn();
  expect(shown()).toEqual(["#1", "mine"]);
});

test("the same content from another window of the same user is another message", async () => {
  const { chat, list, shown } = await listed(0);
  chat.answers = ({ type }) => type !== "channel_message";
  void list.publish("ok");
  await chat.turn();
  await chat.say("ok", "ana");
  await chat.turn();
  chat.answers = () => true;
  await chat.turn();
  expect(shown()).toEqual(["ok", "ok"]);
  expect(new Set(list.get().messages.map(({ key }) => key)).size).toBe(2);
});

test("a refused message is marked as failed, and can be sent again or discarded", async () => {
  const { chat, list, shown, message } = await listed(1);
  chat.answers = () => false;
  const first = list.publish("no");
  const second = list.publish("never");
  await chat.turn();
  const [one, other] = chat.socket.all("channel_message");
  for (const refused of [one, other]) {
    await chat.socket.say({ type: "error", id: refused?.["id"], error_type: "rate_limited", message: "slowly", timestamp: 1, temporary: true });
  }
  expect([await first, await second]).toEqual([false, false]);
  expect(shown()).toEqual(["#1", "no failed", "never failed"]);
  expect(message(1).error).toMatchObject({ kind: "refused", type: "rate_limited" });
  list.discard(message(2).key);
  void list.retry(message(1).key);
  expect(shown()).toEqual(["#1", "no pending"]);
  chat.answers = (asked) => asked !== one && asked !== other;
  await chat.turn();
  expect(shown()).toEqual(["#1", "no"]);
  expect(chat.socket.last("channel_message")["key"]).toBe(one?.["key"]);
  expect(await list.retry("unknown")).toBe(false);
});

test("messages missed during a connection loss are recovered into the list without a gap", async () => {
  const { chat, shown } = await listed(1);
  await chat.lose(() => {
    chat.keep("missed 1");
    chat.keep("missed 2");
  });
  expect(shown()).toEqual(["#1", "missed 1", "missed 2"]);
  expect(chat.socket.all("history")).toEqual([]);
});

test("a restarted stream shows a gap, and new messages follow it", async () => {
  const { chat, list, shown } = await listed(3);
  await chat.lose(() => {
    chat.epoch = "F";
    chat.kept = [];
    chat.keep("again");
  });
  expect(shown()).toEqual(["#1", "#2", "#3", "gap: epoch_changed", "again"]);
  await chat.say("live");
  void list.publish("mine");
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "#3", "gap: epoch_changed", "again", "live", "mine"]);
  expect(list.get().hasOlder).toBe(false);
});

test("live messages push out the oldest, which can be loaded again", async () => {
  const { chat, list, shown } = await listed(2, { max: 3, pageSize: 2 });
  for (const text of ["a", "b", "c"]) await chat.say(text);
  await chat.turn();
  expect(shown()).toEqual(["a", "b", "c"]);
  expect(list.get().hasOlder).toBe(true);
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2", "a", "b", "c"]);
  for (const text of ["d", "e"]) await chat.say(text);
  await chat.turn();
  expect(shown()).toEqual(["a", "b", "c", "d", "e"]);
});

test("messages pushed out while an older page is loading leave no hole", async () => {
  const { chat, list, shown } = await listed(5, { max: 3, pageSize: 2 });
  expect(shown()).toEqual(["#4", "#5"]);
  chat.answers = ({ type }) => type !== "history";
  void list.loadOlder();
  for (const text of ["a", "b", "c"]) await chat.say(text);
  await chat.turn();
  chat.answers = () => true;
  await chat.turn();
  expect(shown()).toEqual(["#4", "#5", "a", "b", "c"]);
  expect(list.get().hasOlder).toBe(true);
});

test("a channel without history lists live messages, and own messages once", async () => {
  const { chat, list, shown } = await listed(0, {}, (chat) => (chat.isRecoverable = false));
  expect(list.get()).toMatchObject({ hasOlder: false, isLoading: false });
  await chat.say("one");
  void list.publish("mine");
  await chat.turn();
  await chat.say("two");
  await chat.turn();
  expect(shown()).toEqual(["one", "mine", "two"]);
  expect(chat.socket.all("history")).toEqual([]);
});

test("a refused subscription is reported, and loading ends", async () => {
  const { chat, list, room } = await listed(0, {}, (chat) => (chat.answers = () => false));
  expect(list.get().isLoading).toBe(true);
  await chat.socket.refuse("subscribe_channel", "permission_denied");
  await chat.turn();
  expect(list.get()).toMatchObject({ isLoading: false, error: { type: "permission_denied" } });
  expect(room.state.name).toBe("unsubscribed");
});

test("a history that cannot be read is reported, and can be requested again", async () => {
  const { chat, list, shown } = await listed(2, {}, (chat) => (chat.answers = ({ type }) => type !== "history"));
  const asked = chat.socket.last("history");
  await chat.socket.refuse("history", "unavailable", { temporary: true });
  await chat.turn();
  expect(list.get()).toMatchObject({ isLoading: false, error: { type: "unavailable" } });
  chat.answers = (message) => message !== asked;
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#1", "#2"]);
  expect(list.get().error).toBeUndefined();
});

test("a burst causes one change, and a snapshot stays the same until something changes", async () => {
  const { chat, list, changes } = await listed(0);
  const before = changes();
  const snapshot = list.get();
  expect(list.get()).toBe(snapshot);
  const burst = Array.from({ length: 100 }, (_, n) => chat.keep(`#${n}`));
  await chat.socket.say(...burst);
  await chat.turn();
  expect(changes()).toBe(before + 1);
  expect(snapshot.messages).toHaveLength(0);
  expect(list.get().messages).toHaveLength(100);
});

test("keys are unique, and keys of own messages differ from those of other clients", async () => {
  const { chat, list, off } = await listed(3);
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  for (const text of ["a", "b"]) void list.publish(text);
  await chat.turn();
  const keys = list.get().messages.map(({ key }) => key);
  expect(new Set(keys).size).toBe(5);
  expect(keys.at(-1)?.length).toBeGreaterThan(20);
  vi.restoreAllMocks();
  off();
});

test("without a channel the list is empty, and nothing is published", async () => {
  const chat = await Chat.connected();
  const list = createMessageList(chat.client, null);
  const off = list.subscribe(() => {});
  expect(await list.publish("nowhere")).toBe(false);
  await list.loadOlder();
  expect(list.get()).toEqual({ messages: [], hasOlder: false, isLoading: false, error: undefined });
  off();
});
