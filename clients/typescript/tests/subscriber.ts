// A subscriber of one channel with the messages that it receives, for the tests of subscriptions and
// positions.

import { expect } from "vitest";
import type { Channel, Client, Gap } from "../src/index.js";
import { World, fate, settle } from "./world.js";

export const start = { epoch: "E", offset: 10 };

export interface Heard {
  client: Client;
  room: Channel;
  world: World;
  heard: unknown[];
  gaps: Gap[];
  states: string[];
}

/** Returns a subscriber of `room`, and the messages that it receives. */
export async function subscriber(answer: object = { ...start, recoverable: true }, session: object = {}): Promise<Heard> {
  const world = new World();
  const client = await world.connected({}, session);
  const room = client.channel("room");
  const all: Heard = { client, room, world, heard: [], gaps: [], states: [] };
  room.on("message", (message) => all.heard.push(message.offset ?? message.content));
  room.on("note", (message) => all.heard.push(message.offset));
  room.onGap((gap) => all.gaps.push(gap));
  room.onState(({ name }) => all.states.push(name));
  const subscription = fate(room.subscribe({ metadata: { device: "phone" } }));
  await settle();
  expect(world.socket.last("subscribe_channel")).toEqual({ type: "subscribe_channel", id: 1, channel: "room", metadata: { device: "phone" } });
  await world.socket.ack("subscribe_channel", { channel: "room", ...answer });
  expect(subscription.now).toMatchObject({ recoverable: "epoch" in answer });
  return all;
}

export const message = (offset: number, type = "message") => ({ type, channel: "room", content: `#${offset}`, timestamp: 1, offset });
