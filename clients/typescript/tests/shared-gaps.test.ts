// Messages that the worker's connection did not receive: a page that subscribes later misses nothing without
// a report.

import { expect, test } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";

type Frame = Record<string, any>;

/** Lets a test replace or drop each arriving frame. */
function withFilter(server: FakeServer): { change: (frame: Frame) => Frame | undefined } {
  const filter = { change: (frame: Frame): Frame | undefined => frame };
  const Original = server.WebSocket;
  const Filtered = class extends Original {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      let listener: ((event: object) => void) | null = null;
      const hear = ({ data }: { data: string }) => {
        const frame = filter.change(JSON.parse(data));
        if (frame) listener?.({ data: JSON.stringify(frame) });
      };
      Object.defineProperty(this, "onmessage", { get: () => hear, set: (value) => (listener = value) });
    }
  };
  Object.assign(server, { WebSocket: Filtered });
  return filter;
}

test("a page that subscribes after a gap of the worker's connection receives the dropped messages", async () => {
  const server = new FakeServer();
  const filter = withFilter(server);
  const browser = new Browser(server);
  const one = await browser.connected();
  const two = await browser.connected();
  const heard: string[][] = [[], []];
  for (const [n, { client }] of [one, two].entries()) client.channel("room").on("message", ({ content }) => heard[n]?.push(String(content)));
  await one.client.channel("room").subscribe();
  await server.channel("room").publish("1");
  const since = { epoch: "epoch-1", offset: 0 };
  // The server drops two of three messages, and reports a gap at the first of them.
  filter.change = (frame) => (frame["type"] === "message" ? undefined : frame);
  await server.channel("room").publish("2");
  await server.channel("room").publish("3");
  filter.change = (frame) => frame;
  await server.send("ana", { type: "gap", channel: "room", epoch: "epoch-1", offset: 1, missed: 2 });
  await browser.settle();
  expect(heard[0]).toEqual(["1", "2", "3"]);
  await two.client.channel("room").subscribe({ since });
  await browser.settle();
  await server.channel("room").publish("4");
  await browser.settle();
  expect(heard).toEqual([["1", "2", "3", "4"], ["1", "2", "3", "4"]]);
});

test("messages that the history no longer has are a gap for the page that subscribes", async () => {
  const server = new FakeServer();
  const filter = withFilter(server);
  const browser = new Browser(server);
  const one = await browser.connected();
  const two = await browser.connected();
  const gaps: unknown[] = [];
  two.client.onGap(({ reason }) => gaps.push(reason));
  await one.client.channel("room").subscribe();
  for (const content of ["1", "2", "3"]) await server.channel("room").publish(content);
  // The end of the history is behind the messages that have arrived.
  filter.change = (frame) => {
    const { data } = frame;
    return data?.messages ? { ...frame, data: { ...data, messages: data.messages.filter(({ offset }: Frame) => offset < 3) } } : frame;
  };
  await two.client.channel("room").subscribe({ since: { epoch: "epoch-1", offset: 0 } });
  await browser.settle();
  expect(gaps).toEqual(["too_old"]);
});

test("joins and leaves during the loading of a long presence list are included", async () => {
  const server = new FakeServer();
  const filter = withFilter(server);
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  for (let n = 1000; n < 2010; n++) void server.channel("room").join(`user-${n}`);
  await one.client.channel("room").subscribe();
  await browser.settle();
  let isFirst = true;
  filter.change = (frame) => {
    if (frame["data"]?.next && isFirst) {
      isFirst = false;
      void server.channel("room").join("aaron");
      void server.channel("room").leave("user-1000");
    }
    return frame;
  };
  await two.client.channel("room").subscribe();
  await browser.settle();
  const { users } = two.client.channel("room").presence;
  expect([isFirst, users.size, users.has("aaron"), users.has("user-1000"), users.has("user-2009")]).toEqual([false, 1011, true, false, true]);
});

test("a page receives the presence list even if the server is late once", async () => {
  const server = new FakeServer();
  const filter = withFilter(server);
  const browser = new Browser(server);
  const [one, two] = [await browser.connected(), await browser.connected()];
  await one.client.channel("room").subscribe();
  await server.channel("room").join("bob");
  filter.change = (frame) => (frame["data"]?.users ? undefined : frame);
  await two.client.channel("room").subscribe();
  await browser.settle();
  filter.change = (frame) => frame;
  await browser.pass(20_000);
  expect([...two.client.channel("room").presence.users.keys()]).toEqual(["ana", "bob"]);
});

test.each(["loss", "move"])("a subscription that the server ended during a %s ends in every page and hides no gap", async (how) => {
  const server = new FakeServer({ channels: { history: 2 } });
  const filter = withFilter(server);
  const browser = new Browser(server);
  const pages = [await browser.connected(), await browser.connected()];
  const gaps: unknown[] = [];
  for (const { client } of pages) await client.channel("room").subscribe();
  await server.send("ana", { type: "subscribed", channel: "news", epoch: "epoch-1", offset: 0, recoverable: true });
  await server.channel("room").publish(1);
  await browser.settle();
  expect(pages.map(({ client }) => client.channel("news").state.name)).toEqual(["subscribed", "subscribed"]);
  for (const { client } of pages) client.channel("room").onGap(({ reason }) => gaps.push(reason));
  filter.change = (frame) => (frame["type"] === "unsubscribed" ? undefined : frame);
  await server.channel("room").unsubscribe();
  for (let n = 2; n < 9; n++) await server.channel("room").publish(n);
  if (how === "loss") await server.drop(1006);
  else await server.send("ana", { type: "reconnect", after: [0, 0], reason: "drain" });
  await browser.pass(30_000);
  expect(pages.map(({ client }) => client.channel("news").state.name)).toEqual(["unsubscribed", "unsubscribed"]);
  expect(pages.map(({ client }) => client.channel("room").position?.offset)).toEqual([8, 8]);
  expect(gaps).toEqual(["too_old", "too_old"]);
});
