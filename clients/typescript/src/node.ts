// The client for Node: as index.ts, with its own WebSocket for runtimes that have none (Node 20).

import { Client as PageClient, type ClientOptions, type Contract } from "./index.js";
import { NodeWebSocket } from "./node-socket.js";
import type { WebSocketConstructor } from "./socket.js";
import type { UrlLike } from "./runtime-types.js";

export * from "./index.js";

/**
 * A lasting connection to a server: it reconnects by itself, restores its channels, and reports what may be
 * missing.
 */
export class Client<T extends Contract = Contract> extends PageClient<T> {
  constructor(url: string | UrlLike, options: ClientOptions = {}) {
    const runtime = globalThis.WebSocket as unknown as WebSocketConstructor | undefined;
    super(url, { ...options, WebSocket: options.WebSocket ?? runtime ?? NodeWebSocket });
  }
}

/** A client of any contract, as the parameter of general functions. */
export type AnyClient = Client<any>;
