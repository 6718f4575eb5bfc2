// One socket for all pages of a browser: a client in each page, whose socket leads to a shared worker, and one client in
// the worker, whose socket leads to the server. Where there are no shared workers, each page has a socket of its own.

import { Client, type ClientOptions, type Contract, type UrlLike } from "hauyna";
import { type PortLike, browser } from "./shared-host.js";
import { linkedClient } from "./shared-link.js";

export { serveTabs } from "./shared-worker.js";

/** As much of a `SharedWorker` as is used here, whose type not every compiler has. */
export interface SharedWorkerLike {
  readonly port: PortLike;
  addEventListener(type: "error", listener: () => void): void;
}

/** How a page shares a connection. Some of the client's options are the worker's: those of the first page count. */
export interface SharedOptions extends Omit<ClientOptions, "WebSocket" | "environment"> {
  /**
   * Makes the worker, whose script calls {@link serveTabs}. Workers with the same script and the same `name` are one, and
   * so is the connection of their pages that have the same address and encoding: put the user into the name. May be called
   * where there are no shared workers, and again where a worker has ended.
   */
  readonly worker: () => SharedWorkerLike;
}

/** A client whose connection is shared by all pages of this browser that have the same worker. */
export function sharedClient<T extends Contract = Contract>(url: string | UrlLike, { worker, ...options }: SharedOptions): Client<T> {
  if (!("SharedWorker" in globalThis)) return new Client<T>(url, options);
  return linkedClient<T>(url, worker, options, browser);
}
