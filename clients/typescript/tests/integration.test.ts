// The client with the real program, over real sockets.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client, type ClientOptions, type Environment, type Gap, HauynaError, type Signal, type State, json, msgpack, defaultEnvironment } from "../src/node.js";
import { type Running, Wire, startServer } from "./server.js";

let server: Running;
const clients: Client[] = [];
const servers: Running[] = [];

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  for (const client of clients) client.close();
  await Promise.all([server, ...servers].map((one) => one?.stop()));
});

async function join(user: string, options: ClientOptions = {}, port = server.port): Promise<Client> {
  const retry = { baseDelay: 20, maxDelay: 100, backoffMultiplier: 2 };
  const client = new Client(`ws://127.0.0.1:${port}/chat?user_id=${user}`, { retry, ...options });
  clients.push(client);
  await client.connect();
  return client;
}

/** Returns the next `count` values that `listen` reports. */
function next<V>(count: number, listen: (listener: (value: V) => void) => void): Promise<V[]> {
  const values: V[] = [];
  return new Promise((resolve) => listen((value) => values.push(value) === count && resolve(values)));
}

describe.each([
  ["JSON", json],
  ["MessagePack", msgpack],
])("in %s", (name, codec) => {
  test("a publication reaches the other client with its offset and its channel", async () => {
    const [ana, bob] = [await join("ana", { codec }), await join("bob", { codec })];
    const [of, to] = [ana, bob].map((client) => client.channel<{ message: { text: string } }>(`room:${name}`));
    const heard = next(2, (listener) => to!.on("message", listener));
    expect((await of!.subscribe()).recoverable).toBe(true);
    await to!.subscribe();
    const first = await of!.publish({ text: "¡hola!" });
    const second = await of!.publish({ text: "😀".repeat(100) });
    expect(second?.offset).toBe(first!.offset + 1);
    expect(await heard).toMatchObject([
      { content: { text: "¡hola!" }, user: "ana", offset: first?.offset, channel: `room:${name}` },
      { content: { text: "😀".repeat(100) }, offset: second?.offset },
    ]);
    const { messages, position } = await to!.history({ limit: 10 });
    expect(messages.map((message) => message.content.text)).toEqual(["¡hola!", "😀".repeat(100)]);
    expect(position).toEqual(second);
  });
});

test("a refusal is an error with its type", async () => {
  const client = await join("eve");
  const refused = client.request("no_such_event", { a: 1 });
  await expect(refused).rejects.toMatchObject({ kind: "refused", type: "unknown_event", temporary: false });
  await expect(client.channel("room:x").publish("?")).rejects.toMatchObject({ type: "not_subscribed" });
  await expect(client.channel("@all").subscribe()).rejects.toBeInstanceOf(HauynaError);
});

test("repeated connection losses lose, duplicate and reorder no messages", async () => {
  const wire = await Wire.to(server.port);
  const ana = await join("cut-ana", {}, wire.port);
  const bob = await join("cut-bob");
  const heard: number[] = [];
  const gaps: unknown[] = [];
  const [of, to] = [bob.channel<{ message: number }>("room:cut"), ana.channel<{ message: number }>("room:cut")];
  to.on("message", ({ content }) => heard.push(content));
  ana.onGap((gap) => gaps.push(gap));
  await to.subscribe();
  await of.subscribe();
  const lost = () => next(1, (listener) => ana.onState((state) => state.name === "reconnecting" && listener(state)));
  for (let n = 0; n < 50; n++) {
    await of.publish(n);
    if (n % 10 === 5) {
      // An attempt that the wire has not accepted yet would not be cut, and no loss be reported.
      await expect.poll(() => ana.state.name, { timeout: 10_000 }).toBe("connected");
      const gone = lost();
      wire.cut();
      await gone;
    }
  }
  await expect.poll(() => heard.length, { timeout: 10_000 }).toBe(50);
  expect(heard).toEqual([...Array(50).keys()]);
  expect(gaps).toEqual([]);
  await wire.close();
});

/** Cuts the connection of a client, and waits until it is connected again. */
async function cutOnce(client: Client, wire: Wire): Promise<void> {
  const gone = next(1, (listener) => client.onState((state) => state.name === "reconnecting" && listener(state)));
  wire.cut();
  await gone;
  await next(1, (listener) => client.onState((state) => state.name === "connected" && listener(state)));
}

test("a channel shows its members, and a lost connection shows no leave on either side", async () => {
  const wire = await Wire.to(server.port);
  const [ana, bob] = [await join("here-ana"), await join("here-bob", {}, wire.port)];
  const heard: string[] = [];
  for (const [name, client] of [["ana", ana], ["bob", bob]] as const) {
    const { presence } = client.channel("room:here");
    presence.on("join", ({ user }) => heard.push(`${name} sees ${user} join`));
    presence.on("leave", ({ user }) => heard.push(`${name} sees ${user} leave`));
  }
  await ana.channel("room:here").subscribe();
  await bob.channel("room:here").subscribe({ metadata: { device: "phone" } });
  await expect.poll(() => heard.length).toBe(4);
  expect(ana.channel("room:here").presence.users.get("here-bob")).toMatchObject({ status: "online", connections: 1 });
  await cutOnce(bob, wire);
  await ana.channel("room:here").publish("after");
  await next(1, (listener) => bob.channel("room:here").history().then(listener));
  expect(heard.filter((line) => line.endsWith("leave"))).toEqual([]);
  expect([...bob.channel("room:here").presence.users.keys()].sort()).toEqual(["here-ana", "here-bob"]);
  await bob.channel("room:here").unsubscribe();
  await expect.poll(() => heard.at(-1)).toBe("ana sees here-bob leave");
  await wire.close();
});

test("the history is read page by page, forwards and backwards", async () => {
  const client = await join("reader");
  const room = client.channel<{ message: number }>("room:past");
  await room.subscribe();
  for (let n = 1; n <= 5; n++) await room.publish(n);
  const contents = async (range: Parameters<typeof room.history>[0]) => (await room.history(range)).messages.map((m) => m.content);
  expect(await contents({ limit: 2 })).toEqual([1, 2]);
  const { position } = await room.history();
  expect(await contents({ since: { ...position, offset: 3 } })).toEqual([4, 5]);
  expect(await contents({ reverse: true, limit: 2 })).toEqual([5, 4]);
  expect(await contents({ since: { ...position, offset: 3 }, reverse: true })).toEqual([2, 1]);
  const page = await room.history({ before: { ...position, offset: 5 }, limit: 3 });
  expect(page.messages.map((m) => m.content)).toEqual([4, 3, 2]);
  expect([page.oldest, page.last]).toEqual([1, { ...position, offset: 2 }]);
  expect(await contents({ before: page.last! })).toEqual([1]);
});

test("publications in flight when the connection is lost are published once and in order", async () => {
  const wire = await Wire.to(server.port);
  const [ana, bob] = [await join("way-ana", {}, wire.port), await join("way-bob")];
  const [of, to] = [ana.channel<{ message: number }>("room:way"), bob.channel<{ message: number }>("room:way")];
  const heard: number[] = [];
  to.on("message", ({ content }) => heard.push(content));
  await of.subscribe();
  await to.subscribe();
  const published: Promise<unknown>[] = [];
  for (let n = 0; n < 200; n++) {
    published.push(of.publish(n));
    if (n % 50 === 25) wire.cut();
    if (n % 10 === 0) await new Promise(setImmediate);
  }
  await Promise.all(published);
  await expect.poll(() => heard.length, { timeout: 10_000 }).toBe(200);
  expect(heard).toEqual([...Array(200).keys()]);
  await wire.close();
});

test("a dead connection is detected soon after the machine wakes up", async () => {
  const wire = await Wire.to(server.port);
  let wake = (_: Signal) => {};
  const environment: Environment = { ...defaultEnvironment, watch: (listener) => ((wake = listener), () => {}) };
  const client = await join("stalled", { environment }, wire.port);
  wire.stall();
  wire.heal();
  wake("online");
  const [lost] = await next<State>(1, (listener) => client.onState((state) => state.name === "reconnecting" && listener(state)));
  expect(lost).toMatchObject({ reason: "no answer after a wake-up" });
  await next(1, (listener) => client.onState((state) => state.name === "connected" && listener(state)));
  await wire.close();
});

test("a restart of the server is reported, and the client continues", async () => {
  const first = await startServer();
  const client = await join("again", {}, first.port);
  const room = client.channel<{ message: string }>("room:again");
  const gaps: Gap[] = [];
  const heard: string[] = [];
  client.onGap((gap) => gaps.push(gap));
  room.on("message", ({ content }) => heard.push(content));
  await room.subscribe();
  const before = await room.publish("before");
  await expect.poll(() => heard).toEqual(["before"]); // the echo may arrive after the acknowledgement
  const lost = next(1, (listener) => client.onState((state) => state.name === "reconnecting" && listener(state)));
  await first.stop("SIGKILL");
  await lost;
  const unsent = room.publish("meanwhile");
  servers.push(await startServer(first.port));
  const after = await unsent;
  expect(after?.epoch).not.toBe(before?.epoch);
  await expect.poll(() => heard).toEqual(["before", "meanwhile"]);
  expect(gaps).toMatchObject([{ channel: "room:again", reason: "epoch_changed", from: before }]);
}, 60_000);

test("a hundred channels are restored under a rate limit, on one connection", async () => {
  const first = await startServer(0, ["--rate-limit", "20"]);
  const client = await join("many", {}, first.port);
  const states: string[] = [];
  const channels = [...Array(100).keys()].map((number) => client.channel(`room:${number}`));
  const areSubscribed = () => channels.every(({ state }) => state.name === "subscribed");
  for (const channel of channels) channel.subscribe().catch(() => {});
  await expect.poll(areSubscribed).toBe(true);
  client.onState(({ name }) => states.push(name));
  await first.stop("SIGKILL");
  servers.push(await startServer(first.port, ["--rate-limit", "20"]));
  await expect.poll(() => client.state.name === "connected" && areSubscribed()).toBe(true);
  expect(states.filter((name) => name === "connected")).toHaveLength(1);
  expect(states).not.toContain("closed");
}, 40_000);

test("a permanently refused handshake ends the attempts and gives the reason", async () => {
  const client = new Client(`ws://127.0.0.1:${server.port}/nowhere`);
  clients.push(client);
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed", message: "the server answered 404" });
  expect(client.state).toMatchObject({ name: "closed", code: 3501 });
});
