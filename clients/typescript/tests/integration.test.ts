// The client against the real program, over real sockets.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client, type ClientOptions, HauynaError, json, msgpack } from "../src/node.js";
import { type Running, Wire, startServer } from "./server.js";

let server: Running;
let clients: Client[] = [];

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  for (const client of clients) client.close();
  await server?.stop();
});

async function join(user: string, options: ClientOptions = {}, port = server.port): Promise<Client> {
  const retry = { base_delay: 20, max_delay: 100, backoff_multiplier: 2 };
  const client = new Client(`ws://127.0.0.1:${port}/chat?user_id=${user}`, { retry, ...options });
  clients.push(client);
  await client.connect();
  return client;
}

/** The next `count` values that `listen` gives. */
function next<V>(count: number, listen: (listener: (value: V) => void) => void): Promise<V[]> {
  const values: V[] = [];
  return new Promise((resolve) => listen((value) => values.push(value) === count && resolve(values)));
}

describe.each([
  ["JSON", json],
  ["MessagePack", msgpack],
])("in %s", (name, codec) => {
  test("what one publishes the other gets, with its number and its name", async () => {
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

test("cutting the wire again and again loses nothing, doubles nothing, and keeps the order", async () => {
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
