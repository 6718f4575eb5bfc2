// The user of a client: requests that waited for one user are not sent as the next one.

import { expect, test } from "vitest";
import { World, fate, settle } from "./world.js";

/** Sends a request while `before` is the token, connects again with `after`, and returns the outcome. */
async function signedIn(before: string | undefined, after: string | undefined, user: string) {
  const world = new World();
  let token = before;
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  await world.socket.drop();
  const waiting = fate(client.sendToUser("eve", "before"));
  token = after;
  client.reconnect();
  await settle();
  const own = fate(client.sendToUser("eve", "after"));
  await world.socket.accept({ user, connection_id: "c-2" });
  const sent = world.socket.all("private").map(({ message }) => message);
  return { waiting: waiting.now, own: own.now, sent };
}

test("queued requests are not sent as another user who has signed in", async () => {
  expect(await signedIn("ana", "bob", "bob")).toEqual({ waiting: "expired", own: "pending", sent: ["after"] });
});

test("queued requests are not sent as a guest after the user has signed out", async () => {
  expect(await signedIn("ana", undefined, "guest-1")).toEqual({ waiting: "expired", own: "pending", sent: ["after"] });
});

test("queued requests are sent as the same user, and as a guest whom the server gives another name", async () => {
  const all = { waiting: "pending", own: "pending", sent: ["before", "after"] };
  expect(await signedIn("ana", "ana again", "ana")).toEqual(all);
  expect(await signedIn(undefined, undefined, "guest-2")).toEqual(all);
});

test("requests queued before the first connection are sent for any user", async () => {
  const world = new World();
  const client = world.client({ getToken: () => "ana" });
  const waiting = fate(client.sendToUser("eve", "early"));
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(world.socket.all("private")).toHaveLength(1);
  expect(waiting.now).toBe("pending");
});

test("late credentials of an abandoned attempt do not count for the attempt that replaced it", async () => {
  const world = new World();
  let token: string | Promise<string> = "ana";
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  let give = (_: string) => {};
  token = new Promise((resolve) => (give = resolve));
  await world.socket.drop();
  await world.pass(5_000);
  const waiting = fate(client.sendToUser("eve", "before"));
  token = "bob";
  client.reconnect();
  await settle();
  give("ana");
  await settle();
  await world.socket.accept({ user: "bob", connection_id: "c-2" });
  expect([waiting.now, world.socket.all("private")]).toEqual(["expired", []]);
});

// This is not solved: without a session only the tokens can be compared, and those of one user differ as
// well.
test.fails("requests of a user who never had a session are not sent as the previous user, who has signed in again", async () => {
  const world = new World();
  let token = "bob-1";
  const client = await world.connected({ getToken: () => token }, { user: "bob", resume: { token: "t" } });
  await world.socket.drop();
  token = "cyd-1";
  client.reconnect();
  await settle();
  void client.sendToUser("eve", "of cyd").catch(() => {});
  await world.socket.drop();
  token = "bob-2";
  client.reconnect();
  await settle();
  await world.socket.accept({ user: "bob", connection_id: "c-2" });
  expect(world.socket.all("private")).toEqual([]);
});

test("requests made while the token source waits for the next user are not sent as that user", async () => {
  const world = new World();
  let token: string | Promise<string> = "ana";
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  let signIn = (_: string) => {};
  token = new Promise((resolve) => (signIn = resolve));
  await world.socket.drop();
  await world.pass(3_000);
  const waiting = fate(client.sendToUser("eve", "before"));
  const before = world.socket;
  signIn("bob");
  await settle();
  expect(world.socket).not.toBe(before);
  const own = fate(client.sendToUser("eve", "after"));
  await world.socket.accept({ user: "bob", connection_id: "c-2" });
  const sent = world.socket.all("private").map(({ message }) => message);
  expect([waiting.now, own.now, sent]).toEqual(["expired", "pending", ["after"]]);
});

test("metadata that one user has updated is not sent as the next user's", async () => {
  const shown: unknown[] = [];
  for (const user of ["ana", "bob"]) {
    const world = new World();
    const client = await world.connected({ getToken: () => "t" });
    const room = client.channel("room");
    void room.subscribe({ metadata: { device: "phone" } });
    await settle();
    await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 10, recoverable: true });
    const update = fate(room.presence.update({ isMuted: true }));
    await settle();
    await world.socket.ack("update_presence");
    expect(update.now).toBe("done");
    await world.lose({ user, connection_id: "c-2" });
    shown.push(world.socket.last("subscribe_channel")["metadata"]);
  }
  expect(shown).toEqual([{ isMuted: true }, { device: "phone" }]);
});

test.each(["closed by the application", "closed by the server"])("requests of the next user after the client was %s are sent as that user, even if the token is late", async (how) => {
  const world = new World();
  let token: string | Promise<string> = "ana";
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  const room = client.channel("room");
  void room.subscribe({ metadata: { device: "phone" } });
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 10, recoverable: true });
  void room.presence.update({ isMuted: true });
  await settle();
  await world.socket.ack("update_presence");
  const before = fate(client.sendToUser("eve", "before"));
  if (how === "closed by the server") await world.socket.drop(3505);
  else client.close();
  let signIn = (_: string) => {};
  token = new Promise((resolve) => (signIn = resolve));
  void client.connect();
  await settle();
  const own = fate(client.sendToUser("eve", "after"));
  await world.pass(1000);
  signIn("bob");
  await settle();
  await world.socket.accept({ user: "bob", connection_id: "c-2" });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 10, recoverable: true, recovered: true });
  const sent = world.socket.all("private").map(({ message }) => message);
  expect([before.now, own.now, sent, world.socket.last("subscribe_channel")["metadata"]]).toEqual(["outcome_unknown", "pending", ["after"], { device: "phone" }]);
});

test("a token requested before the client was closed is not used for the next user", async () => {
  const world = new World();
  let token: string | Promise<string> = "ana";
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  const signIns: ((token: string) => void)[] = [];
  const ask = () => (token = new Promise((resolve) => signIns.push(resolve)));
  ask();
  await world.socket.drop();
  await world.pass(3000);
  client.close();
  ask();
  void client.connect();
  const own = fate(client.sendToUser("eve", "after"));
  await settle();
  for (const signIn of signIns) {
    signIn(signIn === signIns[0] ? "ana" : "bob");
    await settle();
  }
  await world.socket.accept({ user: "bob", connection_id: "c-2" });
  expect([own.now, world.socket.all("private").length]).toEqual(["pending", 1]);
});

test("requests of a guest since the client was closed are not sent as the user who signs in", async () => {
  const world = new World();
  let token: string | undefined = "ana";
  const client = await world.connected({ getToken: () => token }, { resume: { token: "t" } });
  client.close();
  token = undefined;
  void client.connect();
  await settle();
  await world.socket.accept({ user: "guest-1", connection_id: "c-2" });
  await world.socket.drop();
  const before = fate(client.sendToUser("eve", "of a guest"));
  token = "bob";
  client.reconnect();
  await settle();
  await world.socket.accept({ user: "bob", connection_id: "c-3" });
  expect([before.now, world.socket.all("private")]).toEqual(["expired", []]);
});
