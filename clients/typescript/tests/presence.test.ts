// The roster of a channel: ordered by its numbers, requested after a skipped number, compared after a
// reconnect.

import { expect, test } from "vitest";
import type { Channel, Member } from "../src/index.js";
import { World, settle } from "./world.js";

const entry = (status = "online", devices = 1, metadata: object = {}) => ({
  status,
  metadata: { status, ...metadata },
  joined_at: 1,
  updated_at: 1,
  connections: Array.from({ length: devices }, (_, n) => ({ connection_id: `c-${n}`, metadata: {}, joined_at: 1 })),
});
const state = (offset: number, users: object) => ({ type: "presence_state", channel: "room", count: Object.keys(users).length, users, offset });
const change = (event: string, user: string, offset: number, fields: object = {}) => ({
  type: "presence_change",
  event,
  user,
  channel: "room",
  metadata: { status: "online" },
  status: "online",
  connections: event === "leave" ? 0 : 1,
  timestamp: 1,
  offset,
  ...fields,
});

/** Returns a subscriber of `room` who receives the list `users`, and its events from then on. */
async function watcher(users: object = { ana: entry(), bob: entry() }, offset = 5) {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const room: Channel = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 0, recoverable: true });
  await world.socket.say(state(offset, users));
  const heard: string[] = [];
  for (const event of ["join", "leave", "update"] as const) {
    room.presence.on(event, ({ user }: Member) => heard.push(`${event} ${user}`));
  }
  const names = () => [...room.presence.users.keys()].sort().join(" ");
  return { world, room, heard, names };
}

test("the first list reports joins, and its changes are joins, leaves and updates", async () => {
  const { world, room, heard, names } = await watcher();
  expect(names()).toBe("ana bob");
  expect(room.presence.users.get("bob")).toMatchObject({ user: "bob", status: "online", connections: 1, devices: [{ connectionId: "c-0" }] });
  await world.socket.say(
    change("join", "cleo", 6),
    change("update", "bob", 7, { status: "away", connections: 2 }),
    change("leave", "ana", 8),
  );
  expect(heard).toEqual(["join cleo", "update bob", "leave ana"]);
  expect(names()).toBe("bob cleo");
  expect(room.presence.count).toBe(2);
  expect(room.presence.users.get("bob")).toEqual({ user: "bob", status: "away", metadata: { status: "online" }, connections: 2 });
});

test("the devices of a user are known until their number changes, and again after a refresh", async () => {
  const { world, room } = await watcher();
  const bob = () => room.presence.users.get("bob");
  await world.socket.say(change("update", "bob", 6, { status: "away" }));
  expect(bob()).toMatchObject({ status: "away", devices: [{ connectionId: "c-0" }] });
  await world.socket.say(change("update", "bob", 7, { connections: 2 }));
  expect(bob()?.devices).toBeUndefined();
  void room.presence.refresh();
  await world.socket.ack("presence", { channel: "room", count: 2, users: { ana: entry(), bob: entry("online", 2) }, offset: 7 });
  expect(bob()?.devices).toHaveLength(2);
});

test("changes that were applied already are dropped, whatever their order", async () => {
  const { world, heard } = await watcher();
  await world.socket.say(change("join", "cleo", 5), change("leave", "bob", 4), change("join", "dan", 6), change("join", "dan", 6));
  expect(heard).toEqual(["join dan"]);
});

test("changes of the same moment arrive in one message", async () => {
  const { world, room, heard, names } = await watcher();
  const diff = { type: "presence_diff", channel: "room", count: 3, joins: { cleo: entry(), dan: entry() }, leaves: ["ana"], updates: { bob: entry("away", 2) }, offset: 9 };
  await world.socket.say(diff, { ...diff, joins: { eve: entry() } });
  expect(heard).toEqual(["leave ana", "join cleo", "join dan", "update bob"]);
  expect(names()).toBe("bob cleo dan");
  expect(room.presence.count).toBe(3);
});

test("a skipped number loads the list in pages, and changes that arrive meanwhile are applied afterwards", async () => {
  const { world, heard, names } = await watcher();
  await world.socket.say(change("join", "fay", 8));
  expect(heard).toEqual([]);
  expect(world.socket.last("presence")).toMatchObject({ channel: "room" });
  await world.socket.say(change("join", "gus", 9));
  await world.socket.ack("presence", { channel: "room", count: 3, users: { ana: entry() }, offset: 8, next: "ana" });
  expect(world.socket.last("presence")).toMatchObject({ after: "ana" });
  await world.socket.say(change("leave", "ana", 10));
  await world.socket.ack("presence", { channel: "room", count: 3, users: { fay: entry(), gus: entry() }, offset: 9 });
  expect(heard).toEqual(["leave bob", "join fay", "join gus", "leave ana"]);
  expect(names()).toBe("fay gus");
  expect(world.socket.all("presence")).toHaveLength(2);
});

test("a count that does not match the list loads the list", async () => {
  const { world, names } = await watcher();
  await world.socket.say({ type: "presence_diff", channel: "room", count: 9, joins: {}, leaves: [], updates: {}, offset: 30 });
  await world.socket.ack("presence", { channel: "room", count: 1, users: { zoe: entry() }, offset: 30 });
  expect(names()).toBe("zoe");
});

test("dropped messages load the list, because they may have been presence changes", async () => {
  const { world, names, heard } = await watcher();
  await world.socket.say({ type: "gap", channel: "room", epoch: "E", offset: 0, missed: 0 });
  await world.socket.ack("presence", { channel: "room", count: 1, users: { ana: entry() }, offset: 6 });
  expect(names()).toBe("ana");
  expect(heard).toEqual(["leave bob"]);
});

test("a new list after a reconnect reports only real joins, leaves and updates", async () => {
  const { world, heard, names } = await watcher({ ana: entry(), bob: entry(), cleo: entry() });
  await world.socket.drop();
  await settle();
  expect(heard, "a connection loss of this client reports no leaves").toEqual([]);
  expect(names()).toBe("ana bob cleo");
  await world.attempt();
  await world.socket.accept({ resumed: false });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 0, recoverable: true, recovered: true });
  const other = { ...entry(), connections: [{ connection_id: "c-99", metadata: {}, joined_at: 2 }], joined_at: 2 };
  await world.socket.say(state(2, { ana: other, bob: entry("away"), dan: entry() }));
  expect(heard).toEqual(["leave cleo", "update bob", "join dan"]);
  await world.socket.say(change("leave", "dan", 3));
  expect(heard.at(-1), "the new numbers count").toBe("leave dan");
});

test("a channel too large for names has a count, and a list again when it is small", async () => {
  const { world, room, heard } = await watcher();
  await world.socket.say({ type: "occupancy", channel: "room", count: 5012 }, change("join", "eve", 7));
  expect(room.presence).toMatchObject({ count: 5012, isListed: false });
  expect(room.presence.users.size).toBe(0);
  expect(heard, "no leave is reported").toEqual([]);
  await world.socket.say(state(900, { ana: entry(), zoe: entry() }));
  expect(room.presence).toMatchObject({ count: 2, isListed: true });
});

test("the presence of an unsubscribed channel is cleared", async () => {
  const { room, heard } = await watcher();
  void room.unsubscribe();
  expect(room.presence).toMatchObject({ count: 0, isListed: false });
  expect(heard).toEqual([]);
});

test("each change calls the change listener once, with all members", async () => {
  const { world, room } = await watcher();
  const sizes: number[] = [];
  const off = room.presence.on("change", ({ users }) => sizes.push(users.size));
  await world.socket.say(change("join", "cleo", 6), state(7, { ana: entry() }), { type: "occupancy", channel: "room", count: 9 });
  off();
  await world.socket.say(state(9, { ana: entry() }));
  expect(sizes).toEqual([3, 1, 0]);
});

test("a list with endless pages is loaded only up to the maximum of users", async () => {
  const { world, room } = await watcher();
  void room.presence.refresh();
  await settle();
  for (let asked = 0; world.socket.all("presence").length > asked; asked++) {
    if (asked > 3) throw new Error("it asks for ever");
    await world.socket.ack("presence", { channel: "room", count: 2, users: { ana: entry() }, offset: 6, next: "ana" });
  }
  expect([...room.presence.users.keys()]).toEqual(["ana"]);
});

test("no more pages of a list are requested after unsubscribing", async () => {
  const { world, room } = await watcher();
  void room.presence.refresh();
  await settle();
  void room.unsubscribe();
  await world.socket.ack("presence", { channel: "room", count: 9, users: { ana: entry() }, offset: 6, next: "ana" });
  expect(world.socket.all("presence")).toHaveLength(1);
  expect(room.presence.users.size).toBe(0);
});
