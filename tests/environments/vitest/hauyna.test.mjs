// Runs in the environments `node`, `jsdom` and `happy-dom`; the command line says which.

import { expect, test } from "vitest";
import { isReactive, reactive, ref, shallowReactive } from "vue";
import * as hauyna from "hauyna";
import { fakeSocket, scenario } from "../support/scenario.cjs";

const EXPECTED = "connected as ana, heard hello, published at 2, closed";

test("the client is imported and runs", async () => {
  expect(await scenario(hauyna)).toBe(EXPECTED);
});

test("the client can be made with a relative address", () => {
  expect(new hauyna.Client("/live").state.name).toBe("closed");
});

/** A deep proxy, as state managers make them. */
const deep = (target) =>
  new Proxy(target, {
    get(from, key, receiver) {
      const value = Reflect.get(from, key, receiver);
      return typeof value === "object" && value !== null && !(value instanceof Map) ? deep(value) : value;
    },
  });

test.each([
  ["ref", (client) => ref(client).value],
  ["reactive", (client) => reactive({ client }).client],
  ["shallowReactive", (client) => shallowReactive(client)],
  ["a general proxy", deep],
])("a client and its channel work in %s", async (_, wrap) => {
  const client = wrap(new hauyna.Client("wss://server.example/live", { WebSocket: fakeSocket([]) }));
  await client.connect();
  const room = wrap(client.channel("room:1"));
  const heard = new Promise((resolve) => room.on("message", ({ content }) => resolve(content)));
  await room.subscribe();
  expect(await heard).toBe("hello");
  expect(await room.publish("again")).toMatchObject({ offset: 2 });
  expect([client.state.name, room.state.name, room.presence.count, client.user]).toEqual(["connected", "subscribed", 0, "ana"]);
  client.close();
  expect(client.state.name).toBe("closed");
});

test("Vue does not watch the insides of a client", () => {
  expect(isReactive(reactive(new hauyna.Client("/live")))).toBe(false);
});
