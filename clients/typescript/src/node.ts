// The client for Node: as index.ts, with a WebSocket of its own where the runtime has none (Node 20).

import { Client as AnyClient, type ClientOptions, type Contract } from "./index.js";
import { NodeWebSocket } from "./node-socket.js";
import type { WebSocketConstructor } from "./socket.js";

export * from "./index.js";

/** A connection to a server that lasts: it comes back by itself, with its channels, and misses nothing silently. */
export class Client<T extends Contract = Contract> extends AnyClient<T> {
  constructor(url: string | URL, options: ClientOptions = {}) {
    const runtime = globalThis.WebSocket as unknown as WebSocketConstructor | undefined;
    super(url, { ...options, WebSocket: options.WebSocket ?? runtime ?? NodeWebSocket });
  }
}
