// Requests that wait in a page with a shared connection: they are sent as the user who made them, or fail.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser } from "./shared-world.js";
import { fate } from "./world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

type Token = string | undefined;

/**
 * A page sends a request without a connection, another user signs in, and the page sends a second request.
 * Returns the outcome of both, and their users.
 */
async function signedIn(before: Token, after: Token, isConnectedAnew = true) {
  let guests = 0;
  const server = new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? `guest-${++guests}` });
  const told: unknown[] = [];
  server.answer("tell", ({ text }: any, user) => void told.push([user.replace(/-.*/, ""), text]));
  const browser = new Browser(server);
  let token = before;
  const { client } = await browser.connected({ getToken: () => token });
  await server.cut();
  await browser.settle();
  const waiting = fate(client.request("tell", { text: "before" }));
  token = after;
  if (isConnectedAnew) client.reconnect();
  await browser.settle();
  const own = isConnectedAnew && fate(client.request("tell", { text: "after" }));
  await server.restore();
  await browser.pass(30_000);
  return { waiting: waiting.now, own: own && own.now, told };
}

test("queued requests are not sent as another user who has signed in", async () => {
  expect(await signedIn("ana-1", "bob-1")).toEqual({ waiting: "expired", own: "done", told: [["bob", "after"]] });
  expect(await signedIn("ana-1", "bob-1", false)).toEqual({ waiting: "expired", own: false, told: [] });
});

test("queued requests of a user are not sent as a guest, nor a guest's as a user", async () => {
  expect(await signedIn("ana-1", undefined)).toEqual({ waiting: "expired", own: "done", told: [["guest", "after"]] });
  expect(await signedIn(undefined, "ana-1")).toEqual({ waiting: "expired", own: "done", told: [["ana", "after"]] });
});

test("queued requests are sent as the same user, and as a guest whom the server gives another name", async () => {
  expect(await signedIn("ana-1", "ana-2", false)).toMatchObject({ waiting: "done", told: [["ana", "before"]] });
  expect(await signedIn("ana-1", "ana-2")).toMatchObject({ waiting: "done", told: [["ana", "before"], ["ana", "after"]] });
  for (const isAnew of [true, false]) expect(await signedIn(undefined, undefined, isAnew)).toMatchObject({ waiting: "done", told: [["guest", "before"], ...(isAnew ? [["guest", "after"]] : [])] });
});

test("a page without newer credentials when the worker renews them does not become a guest's page", async () => {
  let guests = 0;
  const server = new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? `guest-${++guests}` });
  const told: unknown[] = [];
  server.answer("tell", ({ text }: any, user) => void told.push([user, text]));
  const Original = server.WebSocket;
  const Expiring = class extends Original {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      let listener: ((event: object) => void) | null = null;
      const hear = ({ data }: { data: string }) => {
        const frame = JSON.parse(data);
        listener?.({ data: JSON.stringify(frame.type === "session" ? { ...frame, expires_in: 60_000 } : frame) });
      };
      Object.defineProperty(this, "onmessage", { get: () => hear, set: (value) => (listener = value) });
    }
  };
  Object.assign(server, { WebSocket: Expiring });
  const browser = new Browser(server);
  let token: string | undefined = "ana-1";
  let isBusy = false;
  const source = ({ isRefresh }: { isRefresh: boolean }) => (isRefresh ? undefined : token);
  await browser.connected({ getToken: source });
  const { client } = await browser.connected({
    getToken: (context) => {
      if (isBusy) throw new Error("no token now");
      return source(context);
    },
  });
  await browser.pass(55_000);
  // The other page's credentials restore the connection.
  isBusy = true;
  await server.drop(1006);
  await browser.pass(10_000);
  expect(client.user).toBe("ana");
  isBusy = false;
  await server.cut();
  await browser.settle();
  const waiting = fate(client.request("tell", { text: "ana's" }));
  token = undefined;
  client.reconnect();
  await browser.settle();
  await server.restore();
  await browser.pass(30_000);
  expect([waiting.now, client.user, told]).toEqual(["expired", expect.stringMatching("guest"), []]);
});

test("requests made while the token source waits for the next user are not sent as that user", async () => {
  const server = new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? "guest" });
  const told: unknown[] = [];
  server.answer("tell", ({ text }: any, user) => void told.push([user, text]));
  const browser = new Browser(server);
  let token: string | Promise<string> = "ana-1";
  const { client } = await browser.connected({ getToken: () => token });
  let signIn = (_: string) => {};
  token = new Promise((resolve) => (signIn = resolve));
  await server.drop(1006);
  client.reconnect();
  await browser.settle();
  const waiting = fate(client.request("tell", { text: "before" }));
  signIn("bob-1");
  await browser.pass(30_000);
  const own = fate(client.request("tell", { text: "after" }));
  await browser.pass(1_000);
  expect([waiting.now, own.now, told]).toEqual(["expired", "done", [["bob", "after"]]]);
});
