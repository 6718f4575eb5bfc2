// A client that is only created and not used: on rendering servers, and in test environments that lack parts
// of a browser.

import { afterEach, expect, test, vi } from "vitest";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

test("a client can be created without a page, and explains why it cannot connect", async () => {
  vi.stubGlobal("WebSocket", undefined);
  const { Client } = await import("../src/index.js");
  const client = new Client("/chat");
  client.channel("room:1").on("message", () => {});
  expect(client.state).toMatchObject({ name: "closed" });
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed", message: "no WebSocket here: pass one" });
  vi.stubGlobal("WebSocket", class {});
  await expect(client.connect()).rejects.toMatchObject({ kind: "closed", message: "the address is not a URL" });
  expect(client.state).toMatchObject({ name: "closed", reason: "the address is not a URL" });
});

test("an address relative to the page is resolved when the client connects", async () => {
  const opened: string[] = [];
  vi.stubGlobal("WebSocket", class {
    constructor(url: string) {
      opened.push(url);
    }
    close() {}
  });
  const { Client } = await import("../src/index.js");
  const client = new Client("/chat?room=1");
  vi.stubGlobal("location", { href: "https://shop.example/cart" });
  // In React Native, no property of it can be set.
  vi.stubGlobal("URL", class extends URL {
    override get protocol() {
      return super.protocol;
    }
  });
  client.connect().catch(() => {});
  await vi.waitFor(() => expect(opened).toEqual(["wss://shop.example/chat?room=1"]));
  client.close();
});

test("importing the client and using JSON needs nothing that some environments lack", async () => {
  for (const name of ["TextEncoder", "TextDecoder", "crypto", "WebSocket", "document", "navigator"]) vi.stubGlobal(name, undefined);
  // Jest with jsdom loads the package for Node.
  await import("../src/node.js");
  const { Client, json } = await import("../src/index.js");
  expect(new Client("/chat").state.name).toBe("closed");
  expect(json.decode(json.encode({ type: "ping" }) as string)).toEqual({ type: "ping" });
});

test("an absolute address is used unchanged, whatever the runtime's URL class does with it", async () => {
  const opened: string[] = [];
  // React Native's URL appends a slash, accepts invalid addresses, and is immutable.
  vi.stubGlobal("URL", class {
    readonly href: string;
    constructor(url: string) {
      this.href = `${url}/`;
    }
  });
  const { Client } = await import("../src/index.js");
  const WebSocket = class {
    constructor(url: string) {
      opened.push(url);
    }
    close() {}
  };
  for (const address of ["wss://shop.example/live", "http://10.0.2.2:8080/live"]) {
    const client = new Client(address, { WebSocket: WebSocket as never });
    client.connect().catch(() => {});
    await vi.waitFor(() => expect(opened).toHaveLength(1));
    expect(opened.pop()).toBe(address.replace("http", "ws"));
    client.close();
  }
  await expect(new Client("/live", { WebSocket: WebSocket as never }).connect()).rejects.toMatchObject({ message: "the address is not a URL" });
});
