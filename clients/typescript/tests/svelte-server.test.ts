// The Svelte bindings on a rendering server: they show the initial state, and open no connection.

import { render } from "svelte/server";
import { afterEach, expect, test, vi } from "vitest";
import { Client } from "../src/index.js";
import App from "./svelte/App.svelte";
import Room from "./svelte/Room.svelte";

afterEach(() => {
  vi.unstubAllGlobals();
});

test("a server renders the state before the connection, and opens no connection", () => {
  const sockets = vi.fn();
  vi.stubGlobal("WebSocket", sockets);
  const props = { client: new Client("/chat"), Inside: Room, name: "room", heard: [], expose: () => {} };
  const { body } = render(App, { props });
  expect(body).toContain("<p>connecting unsubscribed</p>");
  expect(body).toContain("<p>0 people, 0 typing, no name</p>");
  expect(sockets).not.toHaveBeenCalled();
});
