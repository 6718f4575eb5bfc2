// A client, a channel and its presence behind proxies, as state managers create them: reads and calls through
// the proxy have the same results.

import { expect, test } from "vitest";
import { Client } from "../src/index.js";
import { World, settle } from "./world.js";

/**
 * Wraps every value that is read from it, like the deep proxies of state managers. Functions get the proxy as
 * `this`.
 */
function deepProxy<T extends object>(target: T): T {
  return new Proxy(target, {
    get(from, key, receiver) {
      const value = Reflect.get(from, key, receiver);
      return typeof value === "object" && value !== null && !(value instanceof Map) ? deepProxy(value) : value;
    },
  });
}

test("a client works through a proxy", async () => {
  const world = new World();
  const client = deepProxy(world.client());
  const states: string[] = [];
  client.onState(({ name }) => states.push(name));
  const connected = client.connect();
  await settle();
  await world.socket.accept();
  await connected;
  expect([client.state.name, client.user, states]).toEqual(["connected", "ana", ["connecting", "connected"]]);
  const reply = client.request("rename", { name: "Ana" });
  await world.socket.ack("rename", { name: "Ana" });
  expect(await reply).toEqual({ name: "Ana" });
  client.close();
  expect(client.state.name).toBe("closed");
});

test("a channel and its presence work through a proxy", async () => {
  const world = new World();
  const client = await world.connected();
  const room = deepProxy(client.channel("room:1"));
  const heard: unknown[] = [];
  room.on("message", ({ content }) => heard.push(content));
  const subscribed = room.subscribe();
  await settle();
  await world.socket.ack("subscribe_channel", { channel: "room:1", epoch: "e", offset: 4, recoverable: true });
  expect((await subscribed).recoverable).toBe(true);
  room.presence.on("change", ({ count }) => heard.push(count));
  await world.socket.say(
    { type: "message", channel: "room:1", content: "hello", offset: 5, timestamp: 1 },
    { type: "presence_state", channel: "room:1", users: {}, count: 0, offset: 1 },
  );
  expect(heard).toEqual(["hello", 0]);
  expect(room).toMatchObject({ state: { name: "subscribed" }, position: { epoch: "e", offset: 5 } });
  const published = room.publish("again");
  await settle();
  await world.socket.ack("channel_message", { epoch: "e", offset: 6 });
  expect(await published).toEqual({ epoch: "e", offset: 6 });
});

test("methods can be passed as callbacks without their object", async () => {
  const client = await new World().connected();
  const { close, channel } = client;
  expect(channel("room:1")).toBe(client.channel("room:1"));
  close();
  expect(client.state.name).toBe("closed");
});

test("a subclass of the application overrides methods, also through a proxy", () => {
  class Counting extends Client {
    calls = 0;
    override close(): void {
      this.calls++;
      super.close();
    }
  }
  const client = new Counting("/live");
  deepProxy(client).close();
  expect(client.calls).toBe(1);
  expect(client.constructor).toBe(Counting);
});
