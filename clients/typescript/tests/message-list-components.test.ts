// Message lists that several components show, under unusual conditions.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type MessagesOptions, createChannel, createMessageList } from "../src/stores.js";
import { Chat, fakeTimers } from "./chat.js";

beforeEach(fakeTimers);
afterEach(() => vi.useRealTimers());

async function listed(count: number, options: MessagesOptions = {}, chat = new Chat()) {
  for (let n = 1; n <= count; n++) chat.keep(`#${n}`);
  chat.client.connect().catch(() => {});
  await chat.turn();
  const room = chat.client.channel("room");
  void room.subscribe().catch(() => {});
  await chat.turn();
  const show = () => {
    const list = createMessageList(chat.client, room, options);
    list.subscribe(() => {});
    const shown = () => list.get().messages.map((one) => (one.kind === "gap" ? `gap: ${one.gap.reason}` : `${one.content}${one.status === "sent" ? "" : ` ${one.status}`}`));
    return { list, shown };
  };
  const one = show();
  await chat.turn();
  return { chat, room, show, ...one };
}

test.each([true, false])("a publication of one list appears in the other lists of the page (history: %s)", async (isRecoverable) => {
  const chat = new Chat();
  chat.isRecoverable = isRecoverable;
  const { show, ...one } = await listed(0, {}, chat);
  const other = show();
  await chat.turn();
  void one.list.publish("mine");
  await chat.turn();
  await chat.say("theirs");
  await chat.turn();
  expect(one.shown()).toEqual(["mine", "theirs"]);
  expect(other.shown()).toEqual(["mine", "theirs"]);
});

test("content that is changed after publishing is shown as it was sent", async () => {
  const { chat, list } = await listed(0);
  const form = { text: "hello", tags: ["a"] };
  void list.publish(form);
  form.text = "";
  form.tags.push("b");
  expect(list.get().messages).toMatchObject([{ status: "pending", content: { text: "hello", tags: ["a"] } }]);
  await chat.turn();
  expect(list.get().messages).toMatchObject([{ status: "sent", content: { text: "hello", tags: ["a"] } }]);
  expect(chat.socket.last("channel_message")).toMatchObject({ content: { text: "hello", tags: ["a"] } });
});

test("a message that was certainly not sent is not matched with the same message of another window", async () => {
  const { chat, list, shown } = await listed(0, {}, new Chat({ outbox: { maxRequests: 0 } as never, ttl: 0 }));
  chat.answers = () => false;
  await chat.socket.drop();
  void list.publish("ok");
  await chat.world.pass(100);
  expect(list.get().messages).toMatchObject([{ status: "failed" }]);
  chat.answers = () => true;
  await chat.world.attempt();
  await chat.turn();
  await chat.say("ok", "ana");
  await chat.turn();
  expect(shown()).toEqual(["ok", "ok failed"]);
});

test("an expired message reappears if another window's equal message had replaced it", async () => {
  const { chat, list, shown } = await listed(0, {}, new Chat({ ttl: 3000 }));
  void chat.client.channel("slow").subscribe().catch(() => {});
  await chat.turn();
  await chat.socket.drop();
  const taken = list.publish("ok");
  chat.keep("ok", "ana");
  // Nothing is sent while a subscription is not restored.
  chat.answers = ({ channel }) => channel !== "slow";
  await chat.world.attempt();
  await chat.turn();
  expect(shown()).toEqual(["ok"]);
  await chat.world.pass(3000);
  expect(await taken).toBe(false);
  expect(shown()).toEqual(["ok", "ok failed"]);
  const keys = list.get().messages.map(({ key }) => key);
  expect(new Set(keys).size).toBe(2);
  list.discard(keys[1]!);
  expect(shown()).toEqual(["ok"]);
});

test("a message that was not sent before close reappears if another window's equal message had replaced it", async () => {
  const { chat, list, shown } = await listed(0, {});
  void chat.client.channel("slow").subscribe().catch(() => {});
  await chat.turn();
  await chat.socket.drop();
  const taken = list.publish("ok");
  chat.keep("ok", "ana");
  // Nothing is sent while a subscription is not restored.
  chat.answers = ({ channel }) => channel !== "slow";
  await chat.world.attempt();
  await chat.turn();
  expect(shown()).toEqual(["ok"]);
  chat.client.close();
  await chat.turn();
  expect(await taken).toBe(false);
  expect(shown()).toEqual(["ok", "ok failed"]);
});

test("a message written before the first connection finally shows its author", async () => {
  const chat = new Chat();
  const room = chat.client.channel("room");
  const list = createMessageList(chat.client, room);
  list.subscribe(() => {});
  chat.client.connect().catch(() => {});
  void room.subscribe();
  void list.publish("early");
  expect(list.get().messages).toMatchObject([{ status: "pending", user: undefined }]);
  await chat.turn();
  await chat.turn();
  expect(list.get().messages).toMatchObject([{ status: "sent", user: "ana" }]);
});

test("a subscription that the application has ended does not load forever", async () => {
  const { chat, room, list } = await listed(1);
  void room.unsubscribe();
  await chat.turn();
  expect(list.get()).toMatchObject({ isLoading: false, error: undefined });
  await chat.lose();
  expect(list.get()).toMatchObject({ isLoading: false, error: undefined });
  chat.answers = ({ type }) => type !== "history";
  void room.subscribe();
  await chat.turn();
  expect(list.get().isLoading).toBe(true);
});

test("a refused subscription keeps its reason, even when older messages are requested", async () => {
  const { chat, list } = await listed(1);
  await chat.socket.say({ type: "unsubscribed", channel: "room" });
  await list.loadOlder();
  expect(list.get().error).toMatchObject({ message: "the server ended the subscription" });
});

test("a permanently closed client does not load forever, and loads when it connects again", async () => {
  const chat = new Chat();
  chat.keep("one");
  const room = chat.client.channel("room");
  const list = createMessageList(chat.client, room);
  list.subscribe(() => {});
  void chat.client.connect().catch(() => {});
  // A pending subscription without a store fails with the client, and the application has to subscribe again.
  createChannel(chat.client, "room").subscribe(() => {});
  await chat.world.pass(0);
  expect(list.get()).toMatchObject({ isLoading: true, error: undefined });
  await chat.socket.drop(3500, "who are you?");
  expect(list.get()).toMatchObject({ isLoading: false, error: { kind: "closed", message: "who are you?" } });
  const late = createMessageList(chat.client, room);
  late.subscribe(() => {});
  expect(late.get()).toMatchObject({ isLoading: false, error: { kind: "closed" } });
  void chat.client.connect();
  await chat.world.pass(0);
  for (const one of [list, late]) expect(one.get()).toMatchObject({ isLoading: true, error: undefined });
  await chat.turn();
  for (const one of [list, late]) expect(one.get()).toMatchObject({ isLoading: false, messages: [{ content: "one" }] });
});

test("older messages have the epoch under which the numbering continues", async () => {
  const { chat, list, shown } = await listed(6, { pageSize: 2 });
  chat.epoch = "F";
  await chat.socket.say({ type: "subscribed", channel: "room", ...chat.end, recoverable: true, recovered: true });
  await chat.say("live");
  await chat.turn();
  void list.loadOlder();
  await chat.turn();
  expect(chat.socket.last("history")).toMatchObject({ before: { epoch: "F", offset: 5 } });
  expect(shown()).toEqual(["#3", "#4", "#5", "#6", "live"]);
});

test("a reconnect with a gap while older messages are loading loses messages at neither end", async () => {
  const { chat, list, shown } = await listed(6, { pageSize: 2 });
  chat.answers = ({ type }) => type !== "history" && type !== "subscribe_channel";
  void list.loadOlder();
  void list.loadOlder();
  await chat.turn();
  expect(chat.socket.all("history")).toHaveLength(2);
  await chat.lose(() => chat.keep("missed"));
  await chat.socket.ack("subscribe_channel", { channel: "room", ...chat.end, recoverable: true, recovered: false, reason: "too_many" });
  chat.answers = () => true;
  await chat.turn();
  expect(shown()).toEqual(["#5", "#6", "gap: too_many", "missed"]);
  expect(list.get()).toMatchObject({ hasOlder: true, isLoading: false });
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#3", "#4", "#5", "#6", "gap: too_many", "missed"]);
});

test("older messages of a stream that was lost come from the new stream", async () => {
  const { chat, list, shown } = await listed(6, { pageSize: 2 });
  await chat.lose(() => {
    chat.epoch = "F";
    chat.kept = [];
    for (const n of [1, 2, 3]) chat.keep(`new ${n}`);
  });
  expect(shown()).toEqual(["#5", "#6", "gap: epoch_changed", "new 2", "new 3"]);
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#5", "#6", "gap: epoch_changed", "new 1", "new 2", "new 3"]);
  expect(list.get().hasOlder).toBe(false);
});

test("the newest messages stay while older ones are loading, and later ones push out the oldest", async () => {
  const { chat, list, shown } = await listed(6, { pageSize: 2, max: 2 });
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#3", "#4", "#5", "#6"]);
  for (const n of [7, 8, 9]) await chat.say(`#${n}`);
  await chat.turn();
  expect(shown()).toEqual(["#6", "#7", "#8", "#9"]);
  void list.loadOlder();
  await chat.turn();
  expect(shown()).toEqual(["#4", "#5", "#6", "#7", "#8", "#9"]);
});

test("gaps count towards the limit of the list, and its oldest entry is never a gap", async () => {
  const { chat, list, shown } = await listed(3, { pageSize: 2, max: 3 });
  for (let n = 0; n < 4; n++) {
    chat.answers = ({ type }) => type !== "subscribe_channel";
    await chat.lose(() => chat.keep(`missed ${n}`));
    await chat.socket.ack("subscribe_channel", { channel: "room", ...chat.end, recoverable: true, recovered: false, reason: "too_many" });
    chat.answers = () => true;
    await chat.turn();
  }
  expect(shown()).toHaveLength(3);
  expect(shown().at(-1)).toBe("missed 3");
  const oldest = () => list.get().messages.find((one) => one.kind === "message" && one.offset !== undefined);
  const before = oldest();
  expect(list.get().hasOlder).toBe(true);
  void list.loadOlder();
  await chat.turn();
  expect((oldest() as { offset: number }).offset).toBeLessThan((before as unknown as { offset: number }).offset);
});

test("ten thousand live and older messages are in order and listed once", async () => {
  const { chat, list } = await listed(10_000, { pageSize: 500, max: 20_000 });
  for (let n = 1; n <= 10_000; n++) chat.socket.onmessage?.({ data: JSON.stringify(chat.keep(`live ${n}`)) } as never);
  await chat.turn();
  while (list.get().hasOlder) {
    void list.loadOlder();
    await chat.turn();
  }
  const offsets = list.get().messages.map((one) => (one as { offset?: number }).offset);
  expect(offsets).toEqual(Array.from({ length: 20_000 }, (_, n) => n + 1));
});
