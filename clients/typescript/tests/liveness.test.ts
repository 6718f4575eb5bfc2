// How a client notices that the server is gone, or that the machine has slept.

import { expect, test } from "vitest";
import { World } from "./world.js";

const session = { heartbeat: { interval: 20_000, timeout: 50_000 } };

test("a short silence sends a ping, and a longer one ends the connection", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.pass(19_999);
  expect(world.socket.heard).toEqual([]);
  await world.pass(1);
  expect(world.socket.heard).toEqual([{ type: "ping" }]);
  await world.pass(29_999);
  expect(client.state.name).toBe("connected");
  expect(world.socket.all("ping"), "one ping was sent").toHaveLength(1);
  await world.pass(1);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "silence" });
  expect(world.sockets[0]?.closed?.code).toBe(4000);
});

test("any message counts as a sign of life, and no ping is sent while messages arrive", async () => {
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

test("after a sleep it sends a ping at once, with a short timeout", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.sleep(40_000);
  expect(world.socket.all("ping")).toHaveLength(1);
  await world.pass(4999);
  expect(client.state.name).toBe("connected");
  await world.pass(1);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "no answer after a wake-up" });
});

test("a clock that is set ahead beyond the timeout does not end a live connection", async () => {
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

test("a connection that survived a sleep stays", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.sleep(3_600_000);
  await world.socket.say({ type: "pong" });
  await world.pass(15_000);
  expect(client.state.name).toBe("connected");
});

test.each(["online", "visible", "offline"] as const)("the signal %s sends one ping at once", async (signal) => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.tell(signal);
  await world.tell(signal);
  expect(world.socket.all("ping")).toHaveLength(1);
  await world.pass(5000);
  expect(client.state.name).toBe("reconnecting");
});

test("an answer at the same time of a coarse clock counts as an answer", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  await world.pass(100);
  await world.socket.say({ type: "anything" });
  await world.tell("visible");
  await world.socket.say({ type: "pong" });
  await world.pass(6000);
  expect(client.state.name).toBe("connected");
});

test("a clock that is set back does not delay the detection of a dead server", async () => {
  const world = new World();
  const client = await world.connected({}, session);
  world.setBack(3_600_000);
  await world.pass(16_000);
  expect(client.state).toMatchObject({ name: "reconnecting", reason: "no answer after a wake-up" });
});
