// The fake server answers like the real program: both have to meet the same expectations.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client, type ClientOptions, type ServerError } from "../src/node.js";
import { FakeServer } from "../src/testing.js";
import { type Running, Wire, program, startServer } from "./server.js";

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
const retry = { baseDelay: 20, maxDelay: 100, backoffMultiplier: 2 };

interface Subject {
  make(user: string, options?: ClientOptions): Client;
  /** Cuts the network. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  close(): Promise<void>;
}

function fake(): Promise<Subject> {
  // The channels of the real program.
  const channels = (name: string) => {
    if (name.startsWith("room:")) return { clientEvents: { cursor: 20, typing: 5 } };
    return { presence: name.startsWith("presence:"), clientEvents: {} };
  };
  const server = new FakeServer({ time: "global", channels });
  return Promise.resolve({
    make: (user, options) => new Client(`ws://fake.example/chat?user=${user}`, { WebSocket: server.WebSocket, retry, logger: SILENT, ...options }),
    cut: () => server.cut(),
    restore: () => server.restore(),
    close: async () => {},
  });
}

async function real(): Promise<Subject> {
  const server: Running = await startServer();
  const wire = await Wire.to(server.port);
  return {
    make: (user, options) => new Client(`ws://127.0.0.1:${wire.port}/chat?user_id=${user}`, { retry, logger: SILENT, ...options }),
    async cut() {
      wire.isDown = true;
      wire.cut();
    },
    async restore() {
      wire.isDown = false;
    },
    async close() {
      await wire.close();
      await server.stop();
    },
  };
}

describe.each([
  { name: "the fake server", start: fake, isThere: true },
  { name: "the program", start: real, isThere: program !== undefined },
])("$name", ({ start, isThere }) => {
  let subject: Subject;
  let client: Client;
  const clients: Client[] = [];

  const join = async (user: string) => {
    const one = subject.make(user);
    clients.push(one);
    await one.connect();
    return one;
  };

  beforeAll(async () => {
    if (!isThere) return;
    subject = await start();
    client = await join("ana");
    for (const name of ["room:1", "presence:1", "plain"]) await client.channel(name).subscribe();
    for (let n = 1; n <= 3; n++) await client.channel("room:1").publish(n);
  });

  afterAll(async () => {
    for (const one of clients) one.close();
    await subject?.close();
  });

  /** Returns the outcome of a request: its data, or the type and details of its error. */
  const outcome = (type: string, fields: object) =>
    client.request(type, fields as never).then(
      (data) => ({ data: data as unknown }),
      ({ type, details }: ServerError) => ({ type, details }),
    );

  const LONG = "x".repeat(300);
  test.skipIf(!isThere).each<[string, object, object]>([
    ["history", { channel: "room:2" }, { type: "not_subscribed" }],
    ["history", { channel: "room:1", since: { epoch: "other", offset: 1 } }, { type: "validation_error", details: { reason: "epoch_changed" } }],
    ["presence", { channel: "room:2" }, { type: "not_subscribed" }],
    ["presence", { channel: "plain" }, { type: "validation_error" }],
    ["presence", { channel: "room:1" }, { data: { channel: "room:1", count: 1, users: { ana: { status: "online" } } } }],
    ["update_presence", { channel: "room:2", metadata: {} }, { type: "not_subscribed" }],
    ["update_presence", { channel: "plain", metadata: {} }, { type: "validation_error" }],
    ["update_presence", { channel: "room:1", metadata: 7 }, { type: "validation_error" }],
    ["update_presence", { channel: "room:1" }, { type: "validation_error" }],
    ["update_presence", { channel: "room:1", metadata: { text: "x".repeat(5000) } }, { type: "limit_exceeded" }],
    ["update_status", {}, { type: "validation_error" }],
    ["channel_message", { channel: "room:1" }, { type: "validation_error" }],
    ["channel_message", { channel: "room:2", content: 1 }, { type: "not_subscribed" }],
    ["channel_message", { channel: "room:1", content: 1, key: "k".repeat(129) }, { type: "limit_exceeded" }],
    ["channel_message", { channel: "plain", content: null }, { data: { offset: 1 } }],
    ["client_event", { channel: "room:1", event: "cursor" }, { data: undefined }],
    ["client_event", { channel: "room:1", event: "shout" }, { type: "permission_denied" }],
    ["client_event", { channel: "plain", event: "cursor" }, { type: "permission_denied" }],
    ["client_event", { channel: "room:2", event: "cursor" }, { type: "not_subscribed" }],
    ["client_event", { channel: "room:1" }, { type: "validation_error" }],
    ["subscribe_channel", { channel: "room:1" }, { type: "already_subscribed" }],
    ["subscribe_channel", { channel: "@all" }, { type: "permission_denied" }],
    ["subscribe_channel", { channel: "" }, { type: "validation_error" }],
    ["subscribe_channel", { channel: "room:\n" }, { type: "validation_error" }],
    ["subscribe_channel", { channel: LONG }, { type: "limit_exceeded" }],
    ["subscribe_channel", { channel: "room:3", metadata: [] }, { type: "validation_error" }],
    ["subscribe_channel", {}, { type: "validation_error" }],
    ["unsubscribe_channel", { channel: "room:2" }, { type: "not_subscribed" }],
    ["private", { to: "ana" }, { type: "validation_error" }],
    ["private", { to: "nobody", message: "psst" }, { data: undefined }],
    ["refresh", { token: "t" }, { type: "unknown_event" }],
    ["resume", { positions: {} }, { data: undefined }],
    ["no_such_event", {}, { type: "unknown_event" }],
  ])("%s with %j", async (type, fields, expected) => {
    expect(await outcome(type, fields)).toMatchObject(expected);
  });

  test.skipIf(!isThere)("the history refuses positions that it no longer has and positions that never existed", async () => {
    const { position } = await client.channel("room:1").history();
    const ahead = { epoch: position.epoch, offset: position.offset + 5 };
    expect(await outcome("history", { channel: "room:1", since: ahead })).toMatchObject({ details: { reason: "epoch_changed" } });
    expect(await outcome("history", { channel: "room:1", since: position, before: position })).toMatchObject({ type: "validation_error" });
    expect(await outcome("history", { channel: "room:1", since: position })).toMatchObject({ data: { messages: [], oldest: 1 } });
    const beginning = { epoch: position.epoch, offset: 1 };
    await client.channel("room:old").subscribe();
    const first = await client.channel("room:old").publish(0);
    for (let n = 0; n < 10; n++) await Promise.all(Array.from({ length: 101 }, () => client.channel("room:old").publish(n)));
    expect(await outcome("history", { channel: "room:old", since: first })).toMatchObject({ type: "validation_error", details: { reason: "too_old" } });
    expect(await outcome("history", { channel: "room:old", before: { ...beginning, epoch: first!.epoch } })).toMatchObject({ data: { messages: [] } });
    const late = await join("late");
    const gaps: string[] = [];
    late.onGap(({ reason }) => gaps.push(reason));
    await late.channel("room:old").subscribe({ since: first });
    expect(gaps).toEqual(["too_old"]);
  });

  test.skipIf(!isThere)("a request repeated with the same key is executed once", async () => {
    const bob = await join("bob");
    const heard: unknown[] = [];
    bob.on("private", ({ message }) => heard.push(message));
    bob.channel("room:keys").on("message", ({ content }) => heard.push(content));
    await bob.channel("room:keys").subscribe();
    await client.channel("room:keys").subscribe();
    for (let n = 0; n < 2; n++) await client.sendToUser("bob", `direct ${n}`, { key: "same" });
    const positions = [await client.channel("room:keys").publish(1, { key: "same" }), await client.channel("room:keys").publish(2, { key: "same" })];
    expect(positions[1]).toEqual(positions[0]);
    await client.channel("room:keys").publish("last");
    await expect.poll(() => heard).toEqual(["direct 0", 1, "last"]);
  });

  test.skipIf(!isThere)("a publication without an echo is recovered by other sessions, but not by its own", async () => {
    const [ana, bob] = [await join("ana-echo"), await join("bob-echo")];
    const heard: Record<string, unknown[]> = { ana: [], bob: [], late: [] };
    for (const [name, one] of Object.entries({ ana, bob })) {
      one.channel("room:echo").on("message", ({ content }) => heard[name]!.push(content));
      await one.channel("room:echo").subscribe();
    }
    const before = await bob.channel("room:echo").publish("first");
    await expect.poll(() => heard).toMatchObject({ ana: ["first"], bob: ["first"] });
    const published = ana.channel("room:echo").publish("quiet", { echo: false });
    await expect.poll(() => heard["bob"]).toEqual(["first", "quiet"]);
    await published;
    // The position is older than the client's own, as if the client had not received everything.
    const lost = new Promise<void>((resolve) => ana.onState(({ name }) => name === "reconnecting" && resolve()));
    await subject.cut();
    await lost;
    await subject.restore();
    ana.reconnect();
    bob.reconnect();
    await expect.poll(() => [ana.state.name, bob.state.name]).toEqual(["connected", "connected"]);
    await bob.channel("room:echo").publish("last");
    const late = await join("late-echo");
    late.channel("room:echo").on("message", ({ content }) => heard["late"]!.push(content));
    await late.channel("room:echo").subscribe({ since: before });
    await expect.poll(() => heard).toEqual({ ana: ["first", "last"], bob: ["first", "quiet", "last"], late: ["quiet", "last"] });
  });

  test.skipIf(!isThere)("presence is listed in pages, in the order of the names", async () => {
    for (const user of ["zoe", "eve", "ali"]) await (await join(user)).channel("presence:pages").subscribe();
    await client.channel("presence:pages").subscribe();
    const first = (await client.request("presence", { channel: "presence:pages", limit: 3 })) as { users: object; next: string };
    expect([Object.keys(first.users), first.next]).toEqual([["ali", "ana", "eve"], "eve"]);
    const second = (await client.request("presence", { channel: "presence:pages", after: first.next })) as { users: object; next?: string };
    expect([Object.keys(second.users), second.next]).toEqual([["zoe"], undefined]);
  });

  test.skipIf(!isThere)("others receive joins, updates and leaves, and nothing for a user who is back in time", async () => {
    const [bob, one, two] = [await join("bob-there"), await join("ana-there"), await join("ana-there")];
    const seen: string[] = [];
    const list = bob.channel("room:there").presence;
    await bob.channel("room:there").subscribe();
    await expect.poll(() => list.users.size).toBe(1);
    for (const event of ["join", "update", "leave"] as const) {
      list.on(event, ({ user, status, connections }) => seen.push(`${event} ${user} ${status} ${connections}`));
    }
    const sees = async (...expected: string[]) => {
      // When this message has arrived, all earlier ones have.
      await bob.channel("room:there").publish("mark");
      await expect.poll(() => seen, { timeout: 3000 }).toEqual(expected);
      seen.length = 0;
    };
    await one.channel("room:there").subscribe({ metadata: { device: "phone" } });
    await sees("join ana-there online 1");
    await two.channel("room:there").subscribe();
    await sees("update ana-there online 2");
    await one.updateStatus("away", { note: "lunch" });
    await sees("update ana-there away 2");
    await one.channel("room:there").presence.update({ device: "desk" });
    one.reconnect();
    await expect.poll(() => one.state.name).toBe("connected");
    await one.channel("room:there").publish("back");
    await sees();
    expect(list.users.get("ana-there")?.metadata).toEqual({ status: "away", note: "lunch" });
    expect(list.users.get("ana-there")?.devices?.map(({ metadata }) => metadata)).toEqual(expect.arrayContaining([{ device: "desk" }, {}]));
    await two.channel("room:there").unsubscribe();
    await sees("update ana-there away 1");
    one.close();
    await sees("leave ana-there away 1");
  });
});
