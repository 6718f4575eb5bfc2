// How a client notices that the server is gone, or that the machine has slept.

import { expect, test } from "vitest";
import { World } from "./world.js";

const session = { heartbeat: { interval: 20_000, timeout: 50_000 } };

test("after a silence it asks, and after a longer one the connection is lost", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.pass(19_999);
  expect(world.socket.heard).toEqual([]);
  await world.pass(1);
  expect(world.socket.heard).toEqual([{ type: "ping" }]);
  await world.pass(29_999);
  expect(client.state.name).toBe("connected");
  expect(world.socket.all("ping"), "asked once").toHaveLength(1);
  await world.pass(1);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "silence" });
  expect(world.sockets[0]?.closed?.code).toBe(4000);
});

test("whatever is heard counts, and a server that is heard is not asked", async () => {
  const world = new World();
  await world.connected({}, session);
  for (let n = 0; n < 10; n++) {
    await world.pass(19_000);
    await world.socket.say({ type: "anything" });
  }
  expect(world.socket.heard).toEqual([]);
  await world.pass(20_000);
  await world.socket.say({ type: "pong" });
  await world.pass(19_000);
  expect(world.socket.all("ping")).toHaveLength(1);
  await world.pass(1000);
  expect(world.socket.all("ping")).toHaveLength(2);
});

test("after a sleep it asks at once, with little patience", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.sleep(40_000);
  expect(world.socket.all("ping")).toHaveLength(1);
  await world.pass(4999);
  expect(client.state.name).toBe("connected");
  await world.pass(1);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "no answer after a wake-up" });
});

test("a clock that is set ahead by more than the patience for a silence does not end a live connection", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.sleep(3_600_000);
  await world.pass(1000);
  expect(world.socket.all("ping")).toHaveLength(1);
  expect(client.state.name).toBe("connected");
  await world.socket.say({ type: "pong" });
  await world.pass(15_000);
  expect(client.state.name).toBe("connected");
});

test("after a sleep that the connection survived it stays", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.sleep(3_600_000);
  await world.socket.say({ type: "pong" });
  await world.pass(15_000);
  expect(client.state.name).toBe("connected");
});

test.each(["online", "visible", "offline"] as const)("%s: it asks at once, and once", async (signal) => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.tell(signal);
  await world.tell(signal);
  expect(world.socket.all("ping")).toHaveLength(1);
  await world.pass(5000);
  expect(client.state.name).toBe("reconnecting");
});

test("an answer in the same moment of a coarse clock is an answer", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.pass(100);
  await world.socket.say({ type: "anything" });
  await world.tell("visible");
  await world.socket.say({ type: "pong" });
  await world.pass(6000);
  expect(client.state.name).toBe("connected");
});

test("a clock that is set back is no reason to wait for a server that is gone", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  world.setBack(3_600_000);
  await world.pass(16_000);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "no answer after a wake-up" });
});
