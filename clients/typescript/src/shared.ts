// One connection for all pages of a browser: the client of each page connects to a shared worker, and the
// worker's client connects to the server. Without shared workers, each page has its own connection.

import { Client, type ClientOptions, type Contract, type UrlLike } from "hauyna";
import { type PortLike, realBrowser } from "./shared-host.js";
import { linkedClient } from "./shared-link.js";

export { serveTabs } from "./shared-worker.js";

/** The part of `SharedWorker` that is used here. Some compilers do not have its type. */
export interface SharedWorkerLike {
  readonly port: PortLike;
  addEventListener(type: "error", listener: () => void): void;
}

/**
 * The options of a shared client. Some of the client's options are the worker's; those of the first page
 * count.
 */
export interface SharedOptions extends Omit<ClientOptions, "WebSocket" | "environment"> {
  /**
   * Creates the worker, whose script calls {@link serveTabs}. Pages whose workers have the same script and
   * the same `name` share one worker, and one connection if they also have the same address and encoding.
   * Include the user in the name. The function is also called if there are no shared workers, and again after
   * a worker has ended.
   */
  readonly worker: () => SharedWorkerLike;
}

/** Creates a client that shares its connection with all pages of this browser that have the same worker. */
export function sharedClient<T extends Contract = Contract>(url: string | UrlLike, { worker, ...options }: SharedOptions): Client<T> {
  if (!("SharedWorker" in globalThis)) return new Client<T>(url, options);
  return linkedClient<T>(url, worker, options, realBrowser);
}
