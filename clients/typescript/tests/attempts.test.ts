// When a client tries to connect, how it reconnects, and when it does not.

import { expect, test, vi } from "vitest";
import { type State, shouldReconnect } from "../src/index.js";
import { delayBefore } from "../src/backoff.js";
import { fixture } from "./fixtures.js";
import { World, fate, settle } from "./world.js";

const terms = { base_delay: 1000, max_delay: 8000, backoff_multiplier: 2 };
const own = { baseDelay: 1000, maxDelay: 8000, backoffMultiplier: 2 };

test("delays are spread over the whole range of the policy, from the first attempt on", () => {
  const longest = [1, 2, 3, 4, 5, 9].map((attempt) => delayBefore(own, attempt, 1));
  expect(longest).toEqual([1000, 2000, 4000, 8000, 8000, 8000]);
  expect(delayBefore(own, 1, 0)).toBe(0);
  const spread = Array.from({ length: 2000 }, () => delayBefore(own, 1, Math.random()));
  for (let tenth = 0; tenth < 10; tenth++) {
    const inside = spread.filter((ms) => ms >= tenth * 100 && ms < (tenth + 1) * 100).length;
    expect(inside).toBeGreaterThan(100);
  }
});

test("connect offers the encoding and waits for the session", async () => {
  const world = new World();
  const client = world.client();
  const states: State["name"][] = [];
  client.onState(({ name }) => states.push(name));
  const connected = fate(client.connect());
  await settle();
  expect(world.socket).toMatchObject({ url: "wss://server.example/live", protocols: ["hauyna.v1.json"], binaryType: "arraybuffer" });
  await world.socket.open();
  expect(client.state).toMatchObject({ name: "connecting", attempt: 0 });
  expect(connected.now).toBe("pending");
  await world.socket.accept();
  expect(connected.now).toBe("done");
  expect(client.state).toMatchObject({ name: "connected", session: { user: "ana" } });
  expect(client.user).toBe("ana");
  expect(states).toEqual(["connecting", "connected"]);
});

test("reconnects after a delay that follows the server's policy", async () => {
  const world = new World();
  const client = await world.connected({}, { retry: { ...terms, max_attempts: 9 } });
  world.chance = 0.25;
  await world.socket.drop();
  expect(client.state).toEqual({ name: "reconnecting", attempt: 1, retryAt: world.time + 250, code: 1006, reason: "" });
  await world.pass(249);
  expect(world.sockets).toHaveLength(1);
  await world.pass(1);
  expect(world.sockets).toHaveLength(2);
  expect(client.state).toEqual({ name: "reconnecting", attempt: 1, code: 1006, reason: "" });
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 2, retryAt: world.time + 500 });
  await world.pass(500);
  await world.socket.accept({ retry: terms });
  const told: unknown[] = [];
  client.on("retry_policy", ({ baseDelay }) => told.push(baseDelay));
  await world.socket.say({ type: "retry_policy", ...terms, base_delay: 4000 });
  expect(told).toEqual([4000]);
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 3, retryAt: world.time + 2000 });
});

test("the count of attempts is reset after thirty stable seconds", async () => {
  const world = new World();
  const client = await world.connected();
  for (const [stable, attempt] of [[29_000, 1], [29_000, 2], [31_000, 1], [1000, 2]] as const) {
    for (let left = stable; left > 0; left -= 1000) {
      await world.pass(1000);
      await world.socket.say({ type: "pong" });
    }
    await world.socket.drop();
    expect(client.state).toMatchObject({ name: "reconnecting", attempt });
    await (await world.attempt()).accept();
  }
});

test("the client gives up after the last attempt, and starts again when the network or the page returns", async () => {
  const world = new World();
  const client = await world.connected({}, { retry: { ...terms, max_attempts: 2 } });
  for (const signal of ["online", "visible"] as const) {
    for (let n = 0; n < 3; n++) {
      await world.socket.drop();
      await world.pass(8000);
    }
    expect(client.state).toMatchObject({ name: "closed", code: 1006, reason: "gave up after 2 attempts" });
    const before = world.sockets.length;
    await world.pass(3_600_000);
    expect(world.sockets).toHaveLength(before);
    await world.tell(signal);
    expect(world.sockets).toHaveLength(before + 1);
    expect(client.state).toMatchObject({ name: "reconnecting", attempt: 0 });
  }
  await world.socket.accept();
  expect(client.state.name).toBe("connected");
});

test.each(fixture<{ code: number; reconnect: boolean }>("close_codes"))(
  "close code $code: the client reconnects: $reconnect",
  async ({ code, reconnect }) => {
    const world = new World();
    const client = await world.connected();
    await world.socket.drop(code, "why");
    expect(client.state).toMatchObject({ name: reconnect ? "reconnecting" : "closed", code, reason: "why" });
    await world.pass(60_000);
    expect(world.sockets).toHaveLength(reconnect ? world.sockets.length : 1);
    expect(shouldReconnect(code)).toBe(reconnect);
    if (!reconnect) {
      await world.tell("online");
      await world.tell("visible");
      expect(client.state.name).toBe("closed");
    }
  },
);

test("connect fails when the server refuses the attempt permanently", async () => {
  const world = new World();
  const client = world.client();
  const connected = fate(client.connect());
  await settle();
  await world.socket.drop(3500, "invalid token");
  expect(connected.now).toBe("closed");
  expect(client.state).toMatchObject({ name: "closed", code: 3500, reason: "invalid token" });
});

test("an attempt without an answer ends after its timeout", async () => {
  const world = new World();
  const client = world.client({ connectTimeout: 3000 });
  void client.connect();
  await settle();
  await world.socket.open();
  await world.pass(2999);
  expect(client.state).toMatchObject({ attempt: 0 });
  await world.pass(1);
  expect(client.state).toMatchObject({ name: "connecting", attempt: 1, reason: "no session in time" });
  expect(world.sockets[0]?.closed).toBeDefined();
  await world.sockets[0]?.accept();
  expect(client.state.name).toBe("connecting");
});

test("a relay that cuts every connection after three seconds does not end the client, and its delays grow", async () => {
  const world = new World();
  const client = await world.connected({ retry: { ...own, maxAttempts: 3 } });
  for (let n = 1; n <= 20; n++) {
    await world.pass(3000);
    await world.socket.drop();
    expect(client.state).toMatchObject({ name: "reconnecting", attempt: n });
    await (await world.attempt()).accept();
  }
  for (let n = 0; n < 4; n++) {
    await world.socket.drop();
    await world.pass(60_000);
  }
  expect(client.state).toMatchObject({ name: "closed", reason: "gave up after 3 attempts" });
});

test("the application's reconnect policy overrides the server's", async () => {
  const world = new World();
  const retry = { baseDelay: 10, maxDelay: 10, backoffMultiplier: 1, maxAttempts: 1 };
  const client = await world.connected({ retry }, { retry: { ...terms, max_attempts: 9 } });
  await world.socket.say({ type: "retry_policy", ...terms });
  await world.socket.drop();
  expect(client.state).toMatchObject({ retryAt: world.time + 5 });
  await (await world.attempt()).drop();
  expect(client.state).toMatchObject({ name: "closed", reason: "gave up after 1 attempts" });
});

test("a signal of the network or the page restarts the series of attempts", async () => {
  const world = new World();
  const client = await world.connected();
  for (let n = 0; n < 6; n++) {
    await world.socket.drop();
    await world.attempt();
  }
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 7 });
  await world.tell("visible");
  expect(client.state).toMatchObject({ name: "reconnecting", attempt: 0 });
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 1 });
});

test("an error without a close event ends the attempt at once and is reported", async () => {
  const world = new World();
  const client = world.client();
  void client.connect().catch(() => {});
  await settle();
  await world.socket.fail("connection refused");
  await world.pass(0);
  expect(client.state).toMatchObject({ name: "connecting", attempt: 1, code: 1006, reason: "connection refused" });
  // An error that a close event follows is reported only once, by the close event.
  const peer = await world.attempt();
  await peer.fail();
  await peer.drop(3500, "invalid token");
  expect(client.state).toMatchObject({ name: "closed", code: 3500, reason: "invalid token" });
});

test("an error event does not end an open connection", async () => {
  const world = new World();
  const client = await world.connected();
  await world.socket.fail("something");
  await world.pass(1000);
  expect(client.state.name).toBe("connected");
});

test("credentials are renewed by the server's clock, not by the client's", async () => {
  const world = new World();
  const getToken = async () => "fresh";
  await world.connected({ getToken }, { expires_at: 1, expires_in: 600_000 });
  for (let n = 0; n < 3; n++) {
    const before = world.socket.all("refresh").length;
    for (let left = 539; left > 0; left--) {
      await world.pass(1000);
      await world.socket.say({ type: "pong" });
    }
    expect(world.socket.all("refresh")).toHaveLength(before);
    await world.pass(1000);
    expect(world.socket.all("refresh")).toHaveLength(before + 1);
    await world.socket.ack("refresh", { expires_at: 1, expires_in: 600_000 });
  }
});

test("credentials that seem to have expired are not renewed in a loop", async () => {
  const world = new World();
  await world.connected({ getToken: async () => "fresh" }, { expires_at: 1 });
  for (let n = 0; n < 50; n++) {
    await world.pass(1000);
    if (world.socket.all("refresh").length > 0) await world.socket.ack("refresh", { expires_at: 1 });
  }
  expect(world.socket.all("refresh").length).toBeLessThanOrEqual(1);
});

test("a series of failures is logged once, and its end is logged", async () => {
  const told: unknown[] = [];
  const write = (level: string) => (message: string, fields?: object) => level !== "debug" && told.push([level, message, fields]);
  const logger = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  const world = new World();
  const client = await world.connected({ logger });
  await world.lose();
  expect(told, "an immediate reconnect is not logged").toEqual([]);
  await world.socket.drop();
  for (let n = 0; n < 4; n++) await (await world.attempt()).drop(1006, "refused");
  await (await world.attempt()).accept();
  expect(told).toMatchObject([
    ["warn", "cannot connect", { url: "wss://server.example/live", code: 1006, reason: "refused", retryInMs: expect.any(Number) }],
    ["info", "connected again", { resumed: false }],
  ]);
  await world.socket.drop(3503, "go");
  expect(told[2]).toEqual(["warn", "closed permanently", { code: 3503, reason: "go" }]);
  expect(client.state.name).toBe("closed");
});

test("a subscription that the server refuses for now is logged once, until it succeeds", async () => {
  const warned: unknown[] = [];
  const logger = { debug() {}, info() {}, warn: (...line: unknown[]) => warned.push(line), error() {} };
  const world = new World();
  const client = await world.connected({ logger });
  const room = client.channel("room");
  const asked = fate(room.subscribe());
  await settle();
  for (let n = 0; n < 3; n++) {
    await world.socket.refuse("subscribe_channel", "internal_error", { temporary: true });
    await world.pass(1000);
  }
  expect([asked.now, room.state.name]).toEqual(["pending", "subscribing"]);
  const line = ["cannot subscribe", { channel: "room", error: expect.objectContaining({ type: "internal_error" }) }];
  expect(warned).toEqual([line]);
  await world.socket.ack("subscribe_channel", { channel: "room", recoverable: false });
  await world.lose();
  await world.socket.refuse("subscribe_channel", "internal_error", { temporary: true });
  expect(warned).toEqual([line, line]);
});

test("two clients have different keys, even if Math.random repeats its values", async () => {
  const world = new World();
  const keys = new Set<unknown>();
  for (let n = 0; n < 2; n++) {
    const client = await world.connected();
    void client.broadcast("hello").catch(() => {});
    keys.add(world.socket.last("broadcast")["key"]);
    client.close();
  }
  expect(keys.size).toBe(2);
});

test("without a network no attempt is made or counted", async () => {
  const world = new World();
  const client = await world.connected({}, { retry: { ...terms, max_attempts: 2 } });
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 1, retryAt: world.time + 500 });
  await world.tell("offline");
  expect(client.state).toEqual({ name: "reconnecting", attempt: 0, code: 1006, reason: "offline" });
  await world.pass(3_600_000);
  expect(world.sockets).toHaveLength(1);
  await world.tell("visible");
  expect(world.sockets).toHaveLength(1);
  await world.tell("online");
  expect(world.sockets).toHaveLength(2);
  world.online = false;
  await world.socket.drop();
  expect(client.state).toMatchObject({ attempt: 0 });
  await world.tell("online");
  await world.socket.accept();
  expect(client.state.name).toBe("connected");
});

test("a waiting attempt starts at once when the network or the page returns", async () => {
  for (const signal of ["online", "visible"] as const) {
    const world = new World();
    await world.connected();
    await world.socket.drop();
    await world.tell(signal);
    expect(world.sockets).toHaveLength(2);
    await world.tell(signal);
    await world.pass(5000);
    expect(world.sockets, "only one attempt is under way").toHaveLength(2);
  }
});

test("the client waits for credentials before every attempt, and sends them beside the sub-protocol", async () => {
  const world = new World();
  let number = 0;
  const getToken = vi.fn(async () => (++number === 2 ? Promise.reject(new Error("no network")) : `t${number}`));
  const client = world.client({ getToken });
  void client.connect();
  await settle();
  expect(world.socket.protocols).toEqual(["hauyna.v1.json", "hauyna.bearer.t1"]);
  expect(getToken).toHaveBeenCalledWith({ isRefresh: false });
  await world.socket.accept();
  await world.socket.drop(3005, "expired");
  await world.pass(1000);
  expect(client.state).toMatchObject({ name: "reconnecting", attempt: 2, reason: "no token" });
  expect(world.sockets).toHaveLength(1);
  await world.pass(2000);
  expect(world.socket.protocols).toEqual(["hauyna.v1.json", "hauyna.bearer.t3"]);
});

test("credentials are renewed on the same connection when a tenth of their time is left", async () => {
  const world = new World();
  const getToken = vi.fn(() => "fresh");
  await world.connected({ getToken }, { expires_at: world.time + 100_000, heartbeat: { interval: 1e9, timeout: 1e9 } });
  await world.pass(89_999);
  expect(world.socket.all("refresh")).toEqual([]);
  await world.pass(1);
  expect(getToken).toHaveBeenLastCalledWith({ isRefresh: true });
  expect(world.socket.last("refresh")).toMatchObject({ token: "fresh" });
  await world.socket.ack("refresh", { expires_at: world.time + 50_000 });
  await world.pass(45_000);
  expect(world.socket.all("refresh")).toHaveLength(2);
  await world.socket.refuse("refresh", "unauthorized");
  await world.pass(100_000);
  expect(world.socket.all("refresh")).toHaveLength(2);
  expect(world.sockets).toHaveLength(1);
});

test("close ends the session with a close code for that, and leaves no timer", async () => {
  const world = new World();
  const client = await world.connected();
  const answer = fate(client.request("late"));
  client.close();
  await settle();
  expect(world.socket.closed).toEqual({ code: 1000, reason: "" });
  expect(client.state).toMatchObject({ name: "closed", code: 1000, reason: "" });
  expect(answer.now).toBe("outcome_unknown");
  expect(fate(client.request("later"))).toMatchObject({ now: "pending" });
  await expect(client.request("later")).rejects.toMatchObject({ kind: "closed" });
  expect(world.timers).toBe(0);
  await world.tell("online");
  expect(world.sockets).toHaveLength(1);
  void client.connect();
  await settle();
  expect(world.sockets).toHaveLength(2);
});

test("reconnect starts an attempt at once, both while waiting and while connected", async () => {
  const world = new World();
  const client = await world.connected();
  client.reconnect();
  await settle();
  expect(world.sockets[0]?.closed?.code, "the close code keeps the session").toBe(4000);
  expect(world.sockets).toHaveLength(2);
  await world.socket.drop();
  client.reconnect();
  await settle();
  expect(world.sockets).toHaveLength(3);
  await world.pass(9_000);
  expect(world.sockets).toHaveLength(3);
  await world.socket.accept();
  expect(client.state.name).toBe("connected");
});

test("a frame that cannot be decoded ends the connection, and the client reconnects", async () => {
  const world = new World();
  const client = await world.connected();
  world.socket.onmessage?.({ data: "{not json" } as never);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "unreadable" });
});

test("connect fails after its timeout, and the client keeps trying", async () => {
  const world = new World();
  const client = world.client();
  const connected = fate(client.connect({ timeout: 3000 }));
  await world.pass(2999);
  expect(connected.now).toBe("pending");
  await world.pass(1);
  expect(connected.now).toBe("timeout");
  await world.socket.accept();
  expect(client.state.name).toBe("connected");
});

test("aborting connect closes a client that has not connected, but not one that has", async () => {
  const world = new World();
  const early = world.client();
  const controller = new AbortController();
  const connecting = early.connect({ signal: controller.signal });
  await settle();
  controller.abort("changed my mind");
  await expect(connecting).rejects.toBe("changed my mind");
  expect(early.state.name).toBe("closed");
  await expect(early.connect({ signal: controller.signal })).rejects.toBe("changed my mind");

  const late = world.client();
  const other = new AbortController();
  const connected = fate(late.connect({ signal: other.signal, timeout: 1000 }));
  await settle();
  await world.socket.accept();
  other.abort();
  await world.pass(5000);
  expect(connected.now).toBe("done");
  expect(late.state.name).toBe("connected");
});

test("the end of the attempts is distinguishable from a close", async () => {
  const world = new World();
  const client = world.client({ retry: { ...own, maxAttempts: 1 } });
  const connected = fate(client.connect());
  await settle();
  await world.socket.drop();
  await (await world.attempt()).drop();
  expect(connected.now).toBe("gave_up");
  await expect(client.request("anything", {})).rejects.toMatchObject({ kind: "gave_up" });
});

test("a token source that is not a function ends the client with an error", async () => {
  const world = new World();
  const client = world.client({ getToken: "a token" as never });
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed", message: "getToken is not a function" });
  expect(world.sockets).toHaveLength(0);
});

test.each([60_000, 600_000])("a server that is away for %i ms loses no client and no publication within the session window", async (away) => {
  const world = new World();
  const client = await world.connected({}, { resume: { token: "t", window: 120_000 } });
  const room = client.channel("room");
  void room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "e", offset: 1, recoverable: true });
  await world.socket.drop();
  const published = fate(room.publish("written in a tunnel"));
  const back = world.time + away;
  while (world.time < back) {
    await world.pass(Math.min(1000, back - world.time));
    if (world.socket.closed === undefined) await world.socket.drop();
  }
  await (await world.attempt()).accept({ resumed: false });
  expect(client.state.name).toBe("connected");
  expect(world.socket.last("subscribe_channel")).toMatchObject({ channel: "room", recover: { epoch: "e", offset: 1 } });
  await world.socket.ack("subscribe_channel", { channel: "room", epoch: "e", offset: 5, recoverable: true, recovered: true });
  if (away <= 120_000) {
    await world.socket.ack("channel_message", { epoch: "e", offset: 6 });
    expect(published.now).toEqual({ epoch: "e", offset: 6 });
  } else {
    expect(published.now).toBe("expired");
  }
});
