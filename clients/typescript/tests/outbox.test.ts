// The fate of requests: their order, their limits of time and number, and what follows from a lost answer.

import { expect, test } from "vitest";
import type { Client } from "../src/index.js";
import { World, fate, settle } from "./world.js";

const position = { epoch: "E", offset: 7 };
const resumable = { resume: { token: "tok-1" } };

/** Returns a client that is subscribed to `room:1` at `position`. */
async function subscribed(world: World, session: object = {}): Promise<Client> {
  const client = await world.connected({}, session);
  void client.channel("room:1").subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", recoverable: true, ...position });
  return client;
}

test("requests made without a connection are sent on the next one, in order and with ids of their own", async () => {
  const world = new World();
  const client = world.client();
  const answers = ["a", "b", "c"].map((name) => fate(client.request(name, { n: name })));
  void client.connect();
  await settle();
  expect(world.socket.heard).toEqual([]);
  await world.socket.accept();
  expect(world.socket.heard).toEqual([
    { type: "a", n: "a", id: 1 },
    { type: "b", n: "b", id: 2 },
    { type: "c", n: "c", id: 3 },
  ]);
  await world.socket.say({ type: "ack", id: 2, data: "B" }, { type: "ack", id: 1 });
  await world.socket.say({ type: "error", id: 3, error_type: "rate_limited", message: "slowly", timestamp: 1, temporary: true, details: { retry_after: 50 } });
  expect(answers.map(({ now }) => now)).toEqual(["done", "B", "refused"]);
  await world.socket.say({ type: "ack", id: 2, data: "again" }, { type: "ack", id: 99 });
});

test("a queued request expires unsent after its timeout, and a volatile one is not queued", async () => {
  const world = new World();
  const client = world.client({ ttl: 5000 });
  const [patient, brief, volatile] = [
    fate(client.request("a")),
    fate(client.request("b", {}, { ttl: 1000 })),
    fate(client.request("c", {}, { volatile: true })),
  ];
  await settle();
  expect(volatile.now).toBe("not_connected");
  await world.pass(1000);
  expect([patient.now, brief.now]).toEqual(["pending", "expired"]);
  await world.pass(4000);
  expect(patient.now).toBe("expired");
  void client.connect();
  await settle();
  await world.socket.accept();
  expect(world.socket.heard).toEqual([]);
  void client.request("d", {}, { volatile: true });
  expect(world.socket.heard).toHaveLength(1);
});

test("a late answer is a timeout, and does not affect other requests", async () => {
  const world = new World();
  const client = await world.connected({ timeout: 2000 });
  const [slow, patient] = [fate(client.request("a")), fate(client.request("b", {}, { timeout: 9000 }))];
  await world.pass(2000);
  expect([slow.now, patient.now]).toEqual(["timeout", "pending"]);
  await world.socket.say({ type: "ack", id: 1 }, { type: "ack", id: 2 });
  expect(patient.now).toBe("done");
});

test("the outbox is bounded in requests and bytes, and an answer frees its place", async () => {
  const world = new World();
  const client = await world.connected({ outbox: { count: 3, bytes: 400 } });
  const three = ["a", "b", "c"].map((name) => fate(client.request(name)));
  await expect(client.request("d")).rejects.toMatchObject({ kind: "outbox_full" });
  await world.socket.say({ type: "ack", id: 1 });
  expect(three[0]?.now).toBe("done");
  await expect(client.request("e", { big: "x".repeat(350) })).rejects.toMatchObject({ kind: "outbox_full" });
  expect(fate(client.request("f", { big: "x".repeat(300) })).now).toBe("pending");
  await settle();
  expect(world.socket.last("f")).toBeDefined();
});

test("a request larger than the whole outbox is invalid, because waiting does not help", async () => {
  const world = new World();
  const client = await world.connected({ outbox: { bytes: 400 } });
  await expect(client.request("a", { big: "x".repeat(400) })).rejects.toMatchObject({ kind: "invalid" });
  expect(fate(client.request("b", { big: "x".repeat(300) })).now).toBe("pending");
});

test("an outbox may have any size when the connection is lost", async () => {
  const world = new World();
  const count = 200_000;
  // This environment has no timers, because those of so many requests would take longer than the test.
  const environment = { now: () => 1, random: () => 0.5, after: () => () => {}, isOnline: () => true, watch: () => () => {} };
  const client = await world.connected({ environment, outbox: { count, bytes: 2 ** 30 } }, { resume: { token: "t" } });
  for (let n = 0; n < count; n++) void client.broadcast(n).catch(() => {});
  client.reconnect();
  expect(client.state).toMatchObject({ name: "reconnecting", attempt: 0 });
  await settle();
  expect(world.sockets, "the next attempt is made").toHaveLength(2);
}, 60_000);

test("an outbox may have any size when the client closes", async () => {
  const world = new World();
  const count = 100_000;
  const environment = { now: () => 1, random: () => 0.5, after: () => () => {}, isOnline: () => true, watch: () => () => {} };
  const client = world.client({ environment, outbox: { count, bytes: 2 ** 30 } });
  client.connect().catch(() => {});
  for (let n = 0; n < count; n++) void client.broadcast(n).catch(() => {});
  await settle();
  const began = Date.now();
  client.close();
  // It would take minutes if each request were searched for among the others.
  expect(Date.now() - began).toBeLessThan(10_000);
}, 60_000);

test("only the request that cannot be encoded fails", async () => {
  const world = new World();
  const client = await world.connected();
  const circle: { self?: object } = {};
  circle.self = circle;
  await expect(client.request("a", circle)).rejects.toMatchObject({ kind: "invalid" });
});

test("a publication has a unique key, which the application may choose", async () => {
  const world = new World();
  const client = await world.connected();
  void client.sendToUser("bob", 1).catch(() => {});
  void client.sendToGroup("team", 2).catch(() => {});
  void client.broadcast(3, { key: "mine" }).catch(() => {});
  void client.channel("x").publish(4).catch(() => {});
  const keys = world.socket.heard.map((message) => message["key"]);
  expect(new Set(keys).size).toBe(4);
  expect(keys[2]).toBe("mine");
  expect(world.socket.heard).toMatchObject([
    { type: "private", to: "bob", message: 1 },
    { type: "group", room: "team", message: 2 },
    { type: "broadcast", message: 3 },
    { type: "channel_message", channel: "x", content: 4 },
  ]);
});

test("publications without an answer are sent again when the session is resumed, before newer requests", async () => {
  const world = new World();
  const client = await subscribed(world, resumable);
  const room = client.channel("room:1");
  const sent = [fate(room.publish("one")), fate(client.sendToUser("bob", "two"))];
  const first = world.socket.heard.slice(-2);
  await world.socket.drop();
  const newer = fate(room.publish("three"));
  await world.attempt();
  await world.socket.accept({ ...resumable, resumed: true, subscriptions: [{ channel: "room:1", ...position, recoverable: true, recovered: true }] });
  expect(world.socket.heard.slice(1, 3), "the ids and the keys are the same").toEqual(first);
  expect(world.socket.heard[3]).toMatchObject({ content: "three" });
  for (const { id } of world.socket.heard.slice(1)) await world.socket.say({ type: "ack", id, data: position });
  expect([...sent, newer].map(({ now }) => now)).toEqual([position, position, position]);
});

test.each([
  ["recovered", { recovered: true }, true],
  ["not recovered: too_old", { recovered: false, reason: "too_old" }, true],
  ["not recovered: too_many", { recovered: false, reason: "too_many" }, true],
  ["not recovered: epoch_changed", { epoch: "F", recovered: false, reason: "epoch_changed" }, false],
  ["without history", { epoch: undefined, offset: undefined, recoverable: false }, false],
])("a fresh session, %s: publications are sent again: %s", async (_, answer, again) => {
  const world = new World();
  const client = await subscribed(world);
  const room = client.channel("room:1");
  const [lost, direct] = [fate(room.publish("lost")), fate(client.sendToUser("bob", "lost"))];
  const key = world.socket.last("channel_message")["key"];
  await world.lose();
  const newer = fate(room.publish("newer"));
  expect(world.socket.all("channel_message"), "they are not sent before the channel is subscribed").toEqual([]);
  await world.socket.ack("subscribe_channel", { channel: "room:1", ...position, recoverable: true, ...answer });
  const texts = world.socket.all("channel_message").map((message) => message["content"]);
  expect(texts).toEqual(again ? ["lost", "newer"] : ["newer"]);
  expect(lost.now).toBe(again ? "pending" : "outcome_unknown");
  expect(direct.now, "it is unknown whether the server remembers their keys").toBe("outcome_unknown");
  if (again) expect(world.socket.all("channel_message")[0]).toMatchObject({ key });
  expect(newer.now).toBe("pending");
});

test.each([
  ["the channel was confirmed", true],
  ["the channel was not confirmed", false],
])("a restarted session that is resumed before the server's memory is known, when %s, repeats no publication", async (_, hasAnswered) => {
  const world = new World();
  const client = await subscribed(world, resumable);
  const room = client.channel("room:1");
  const [lost, direct, event] = [
    fate(room.publish("lost")),
    fate(client.sendToUser("bob", "lost")),
    fate(client.request("count", {}, { repeatable: true })),
  ];
  // The other channel delays the decision.
  void fate(client.channel("room:2").subscribe());
  await world.lose({ ...resumable, resumed: false });
  const again = { channel: "room:1", epoch: "F", offset: 3, recoverable: true };
  const [first] = world.socket.all("subscribe_channel");
  expect(first).toMatchObject({ channel: "room:1" });
  const answer = { ...again, recovered: false, reason: "epoch_changed" };
  if (hasAnswered) await world.socket.say({ type: "ack", id: first?.["id"], data: answer });
  const entry = hasAnswered ? { ...again, recovered: true } : answer;
  await world.lose({ ...resumable, resumed: true, subscriptions: [entry] });
  await world.socket.ack("subscribe_channel", { channel: "room:2", recoverable: false });
  expect([lost.now, direct.now, event.now]).toEqual(["outcome_unknown", "outcome_unknown", "pending"]);
  expect(world.socket.all("channel_message")).toEqual([]);
});

test("a publication that was never sent is sent, even if the server has lost its memory", async () => {
  const world = new World();
  const client = await subscribed(world);
  await world.socket.drop();
  const waiting = fate(client.channel("room:1").publish("waits"));
  await world.attempt();
  await world.socket.accept();
  const answer = { channel: "room:1", epoch: "F", offset: 0, recoverable: true, recovered: false, reason: "epoch_changed" };
  await world.socket.ack("subscribe_channel", answer);
  expect(world.socket.last("channel_message")).toMatchObject({ content: "waits" });
  await world.socket.ack("channel_message", { epoch: "F", offset: 1 });
  expect(waiting.now).toEqual({ epoch: "F", offset: 1 });
});

test("an application event without an answer fails, unless it may be repeated", async () => {
  const world = new World();
  const client = await world.connected({}, resumable);
  const once = fate(client.request("pay", { amount: 1 }));
  const often = fate(client.request("look", {}, { repeatable: true }));
  await world.lose({ resumed: true, ...resumable });
  expect(once.now).toBe("outcome_unknown");
  expect(world.socket.heard.slice(1)).toEqual([{ type: "look", id: 2 }]);
  await world.socket.ack("look", { here: true });
  expect(often.now).toEqual({ here: true });
});

test("a request that was sent and cannot be repeated in time has an unknown outcome", async () => {
  const world = new World();
  const client = await subscribed(world, resumable);
  const lost = fate(client.channel("room:1").publish("lost", { ttl: 3000 }));
  await world.socket.drop();
  await world.pass(3000);
  expect(lost.now).toBe("outcome_unknown");
});

test("a publication is not sent again when the server may have forgotten its key", async () => {
  const world = new World();
  const client = await subscribed(world, resumable);
  const lost = fate(client.channel("room:1").publish("lost", { ttl: 3_600_000 }));
  await world.socket.drop();
  await world.tell("offline");
  await world.pass(280_000);
  await world.tell("online");
  await world.socket.accept({ ...resumable, resumed: true, subscriptions: [{ channel: "room:1", ...position, recoverable: true, recovered: true }] });
  expect(lost.now).toBe("outcome_unknown");
  expect(world.socket.all("channel_message")).toEqual([]);
});

test("closing ends the queued requests: unsent ones are closed, sent ones have an unknown outcome", async () => {
  const world = new World();
  const client = await world.connected({}, { retry: { max_attempts: 1, base_delay: 10, max_delay: 10, backoff_multiplier: 1 } });
  const sent = fate(client.sendToUser("bob", 1));
  await world.socket.drop();
  const unsent = fate(client.request("a"));
  await (await world.attempt()).drop();
  expect(client.state.name).toBe("closed");
  expect([sent.now, unsent.now]).toEqual(["outcome_unknown", "gave_up"]);
});

test("a volatile request is sent as soon as connect resolves, and never twice", async () => {
  const world = new World();
  const client = world.client();
  const room = client.channel("room");
  const cursor = client.connect().then(() => room.publish("cursor", { volatile: true }));
  const outcome = fate(cursor);
  await settle();
  await world.socket.accept();
  expect(outcome.now).toBe("pending");
  expect(world.socket.all("channel_message")).toHaveLength(1);
  await world.lose({ resumed: true });
  expect(outcome.now).toBe("outcome_unknown");
  expect(world.socket.all("channel_message")).toEqual([]);
});

test("a volatile request that waits for its channel is not sent on a later connection", async () => {
  const world = new World();
  const client = await world.connected();
  const room = client.channel("room");
  room.subscribe().catch(() => {});
  const cursor = fate(room.publish("cursor", { volatile: true }));
  await settle();
  expect(cursor.now).toBe("pending");
  await world.lose();
  expect(cursor.now).toBe("not_connected");
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  expect(world.socket.all("channel_message")).toEqual([]);
});

test("a request larger than the server accepts is refused locally, and affects no other", async () => {
  const world = new World();
  const client = await world.connected({}, { limits: { max_message: 200 } });
  const large = client.request("large", { text: "ä".repeat(100) });
  const error = await large.catch((error) => error);
  expect(error).toMatchObject({ kind: "refused", type: "payload_too_large", temporary: false, details: { limit: 200 } });
  expect(world.socket.all("large")).toEqual([]);
  const small = fate(client.request("small", { text: "a".repeat(100) }));
  await world.socket.ack("small");
  await settle();
  expect(small.now).toBe("done");
});

test("a request that is too large for the connection fails, and the others continue", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t", window: 60_000 } });
  const room = client.channel("room:1");
  const before = fate(room.publish("before"));
  const large = client.request("large", { text: "a".repeat(9000) }).catch((error) => error);
  const after = fate(room.publish("after"));
  await world.socket.drop(1009);
  expect(await large).toMatchObject({ kind: "refused", type: "payload_too_large" });
  await (await world.attempt()).accept({ resumed: true });
  expect(world.socket.all("channel_message").map(({ content }) => content)).toEqual(["before", "after"]);
  await world.socket.say(...world.socket.all("channel_message").map(({ id }) => ({ type: "ack", id })));
  expect([before.now, after.now]).toEqual(["done", "done"]);
});

test("a request waits as long as the server keeps the session", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t", window: 90_000 } });
  await world.socket.drop();
  await world.tell("offline");
  const waiting = fate(client.request("late"));
  await world.pass(89_999);
  expect(waiting.now).toBe("pending");
  await world.pass(1);
  expect(waiting.now).toBe("expired");
});

const limited = { ...resumable, limits: { max_message: 1000 } };

test("an answer that the server does not accept becomes a refusal, and affects no other request", async () => {
  const world = new World();
  const client = await world.connected({}, limited);
  client.onRequest("dump", () => "x".repeat(1000));
  client.onRequest("fail", () => Promise.reject(new Error("x".repeat(1000))));
  for (const id of ["dump", "fail"]) {
    await world.socket.say({ type: "request", id, event: id, data: null });
    expect(world.socket.heard.at(-1)).toEqual({ type: "error", id, message: "the answer is too large" });
  }
});

test("a subscription that the server does not accept is refused, and does not end the connection", async () => {
  const world = new World();
  const client = await world.connected({}, limited);
  const refused = client.channel("a").subscribe({ metadata: { text: "x".repeat(1000) } });
  await expect(refused).rejects.toMatchObject({ kind: "refused", type: "payload_too_large" });
  expect(world.socket.heard).toEqual([]);
});

test("a repetition that is too large leaves the outcome of the first attempt unknown", async () => {
  for (const max_message of [undefined, 1000]) {
    const world = new World();
    const client = await subscribed(world, resumable);
    const published = fate(client.channel("room:1").publish("a".repeat(9000)));
    const looked = fate(client.request("look", { text: "a".repeat(8000) }, { repeatable: true }));
    const subscriptions = [{ channel: "room:1", ...position, recoverable: true, recovered: true }];
    const session = { resumed: true, ...resumable, subscriptions, ...(max_message && { limits: { max_message } }) };
    await world.lose(session);
    if (!max_message) await world.socket.drop(1009);
    expect([published.now, looked.now]).toEqual(["outcome_unknown", max_message ? "refused" : "pending"]);
  }
});

test("a message without an answer that was too large for the connection fails no smaller request", async () => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t" } });
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "E", offset: 1, recoverable: true, client_events: { drawing: 0 } });
  client.onRequest("look", () => "x".repeat(9000));
  const event = () => (room.send as (type: string, data: unknown) => void)("drawing", "x".repeat(9000));
  const question = () => world.socket.say({ type: "request", id: "q", event: "look" });
  for (const tell of [event, question]) {
    const publication = fate(room.publish("small"));
    await tell();
    await settle();
    expect(world.socket.heard.some((message) => JSON.stringify(message).length > 9000)).toBe(true);
    await world.socket.drop(1009);
    expect(publication.now).toBe("pending");
    const subscriptions = [{ channel: "room", epoch: "E", offset: 1, recoverable: true, recovered: true, client_events: { drawing: 0 } }];
    await (await world.attempt()).accept({ resumed: true, resume: { token: "u" }, subscriptions });
    await world.socket.ack("channel_message", { epoch: "E", offset: 2 });
    expect(publication.now).toMatchObject({ offset: 2 });
  }
});

test.each(["timed out", "was aborted"])("a request that %s and was too large for the connection fails no smaller one", async (how) => {
  const world = new World();
  const client = await world.connected({}, resumable);
  const abort = new AbortController();
  const large = fate(client.request("large", { text: "x".repeat(9000) }, { timeout: 1000, signal: abort.signal }));
  await settle();
  if (how === "timed out") await world.pass(1000);
  else abort.abort("enough");
  const small = fate(client.request("small", { text: "x".repeat(100) }, { repeatable: true }));
  await settle();
  await world.socket.drop(1009);
  expect([large.now, small.now]).toEqual([how === "timed out" ? "timeout" : "enough", "pending"]);
  await (await world.attempt()).accept({ resumed: true, ...resumable });
  expect(world.socket.all("small")).toHaveLength(1);
  // On another connection, what was sent before says nothing.
  await world.socket.drop(1009);
  expect(small.now).toBe("refused");
});

test("a request whose fields would be replaced or are no fields is invalid", async () => {
  const world = new World();
  const client = await world.connected();
  for (const fields of [{ id: 7 }, { id: null }, { type: "other" }, ["a"], "a", 7] as object[]) {
    await expect(client.request("a", fields), JSON.stringify(fields)).rejects.toMatchObject({ kind: "invalid" });
    await expect(client.updateStatus("away", fields), JSON.stringify(fields)).rejects.toMatchObject({ kind: "invalid" });
  }
  expect(world.socket.heard).toEqual([]);
  for (const fields of [undefined, null, {}, { type: "a" }, { id: undefined }] as object[]) void client.request("a", fields);
  await settle();
  expect(world.socket.all("a")).toHaveLength(5);
});
