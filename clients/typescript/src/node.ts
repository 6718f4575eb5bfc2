// The client for Node: as index.ts, with a WebSocket of its own where the runtime has none (Node 20).

import { Client as PageClient, type ClientOptions, type Contract } from "./index.js";
import { NodeWebSocket } from "./node-socket.js";
import type { WebSocketConstructor } from "./socket.js";
import type { UrlLike } from "./standard.js";

export * from "./index.js";

/** A connection to a server that lasts: it comes back by itself, with its channels, and misses nothing silently. */
export class Client<T extends Contract = Contract> extends PageClient<T> {
  constructor(url: string | UrlLike, options: ClientOptions = {}) {
    const runtime = globalThis.WebSocket as unknown as WebSocketConstructor | undefined;
    super(url, { ...options, WebSocket: options.WebSocket ?? runtime ?? NodeWebSocket });
  }
}

/** What helper functions take: a client of any contract. */
export type AnyClient = Client<any>;
