// One socket for all pages of a browser: a client in each page, whose socket leads to a shared worker, and one client in
// the worker, whose socket leads to the server. Where there are no shared workers, each page has a socket of its own.

import { Client, type ClientOptions, type Contract, type Signal, type UrlLike, type WebSocketConstructor, type WebSocketLike, surroundings } from "hauyna";
import type { FromPage, FromWorker } from "./shared-port.js";

export { serveTabs } from "./shared-worker.js";

/** As much of a `SharedWorker` as is used here, whose type not every compiler has. */
export interface SharedWorkerLike {
  readonly port: { onmessage: ((event: never) => void) | null; postMessage(message: unknown): void };
  addEventListener(type: "error", listener: () => void): void;
}

/** How a page shares a connection. Some of the client's options are the worker's: those of the first page count. */
export interface SharedOptions extends Omit<ClientOptions, "WebSocket" | "environment"> {
  /**
   * Makes the worker, whose script calls {@link serveTabs}. Workers with the same script and the same `name` are one, and
   * so is their connection: put the user into the name. May be called where there are no shared workers.
   */
  readonly worker: () => SharedWorkerLike;
}

/** A client whose connection is shared by all pages of this browser that have the same worker. */
export function sharedClient<T extends Contract = Contract>(url: string | UrlLike, { worker, ...options }: SharedOptions): Client<T> {
  if (!("SharedWorker" in globalThis)) return new Client<T>(url, options);
  const link = new Link(url, worker, options);
  return new Client<T>(url, {
    ...options,
    getToken: (context) => (link.isBroken ? options.getToken?.(context) : undefined),
    WebSocket: link.WebSocket,
    environment: {
      ...surroundings,
      isOnline: () => (link.isBroken ? surroundings.isOnline() : link.isThere),
      watch: (listener) => link.watch(listener),
    },
  });
}

/** The page's end of the port. */
class Link {
  /** The worker cannot be used: this page is on its own. */
  isBroken = false;
  /** The worker is connected, or has not said that it is not. */
  isThere = true;
  readonly WebSocket: WebSocketConstructor;
  readonly #url: string | UrlLike;
  readonly #worker: () => SharedWorkerLike;
  readonly #options: Omit<SharedOptions, "worker">;
  readonly #sockets = new Map<number, LinkSocket>();
  readonly #watchers = new Set<(signal: Signal) => void>();
  #port: SharedWorkerLike["port"] | undefined;
  #numbers = 0;

  constructor(url: string | UrlLike, worker: () => SharedWorkerLike, options: Omit<SharedOptions, "worker">) {
    this.#url = url;
    this.#worker = worker;
    this.#options = options;
    const link = this;
    this.WebSocket = class {
      constructor(address: string, protocols: string[]) {
        return link.#socket(address, protocols) as never;
      }
    } as unknown as WebSocketConstructor;
  }

  say(message: FromPage): void {
    this.#port?.postMessage(message);
  }

  /** The signals of the page, and that of the worker's connection. */
  watch(listener: (signal: Signal) => void): () => void {
    this.#watchers.add(listener);
    const off = surroundings.watch((signal) => this.isBroken && listener(signal));
    return () => {
      this.#watchers.delete(listener);
      off();
      this.say({ say: "close", socket: 0 });
    };
  }

  #socket(url: string, protocols: string[]): WebSocketLike {
    if (!this.isBroken) this.#open();
    if (this.isBroken) return new (globalThis.WebSocket as unknown as WebSocketConstructor)(url, protocols);
    const number = ++this.#numbers;
    const socket = new LinkSocket(number, this);
    this.#sockets.set(number, socket);
    this.say({ say: "open", socket: number, protocol: protocols[0] ?? "" });
    return socket;
  }

  #open(): void {
    if (this.#port) return;
    try {
      const worker = this.#worker();
      this.#port = worker.port;
      worker.addEventListener("error", () => this.#break());
    } catch {
      return this.#break();
    }
    this.#port.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#hear(data);
    void this.#introduce(this.#port);
  }

  async #introduce(port: SharedWorkerLike["port"]): Promise<void> {
    const { retry, timeout, connectTimeout, getToken } = this.#options;
    const url = new URL(this.#url as string, globalThis.location?.href).href;
    const settings = { url, hasToken: getToken !== undefined, retry, timeout, connectTimeout };
    const lock = `hauyna ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
    // Only pages of secure origins have locks.
    if (!navigator.locks) {
      setInterval(() => port.postMessage({ say: "alive" } satisfies FromPage), ALIVE);
      return port.postMessage({ say: "hello", lock: undefined, settings } satisfies FromPage);
    }
    // Held until the page ends, however it ends.
    void navigator.locks.request(lock, () => {
      port.postMessage({ say: "hello", lock, settings } satisfies FromPage);
      return new Promise(() => {});
    });
  }

  #hear(message: FromWorker): void {
    if (message.say === "network") {
      this.isThere = message.isThere;
      for (const watcher of [...this.#watchers]) watcher(message.isThere ? "online" : "offline");
    } else if (message.say === "token?") void this.#giveToken(message.id, message.isRefresh);
    else {
      const socket = this.#sockets.get(message.socket);
      if (message.say === "closed") this.#sockets.delete(message.socket);
      socket?.hear(message);
    }
  }

  async #giveToken(id: number, isRefresh: boolean): Promise<void> {
    let token: string | undefined;
    try {
      token = await this.#options.getToken?.({ isRefresh });
    } catch (error) {
      this.#options.logger?.warn("no token", { error });
    }
    this.say({ say: "token", id, token });
  }

  /** The script of the worker cannot be loaded, or fails: this page opens a socket of its own. */
  #break(): void {
    this.isBroken = true;
    this.#port = undefined;
    for (const [socket, open] of [...this.#sockets]) open.hear({ say: "closed", socket, code: 1006, reason: "no shared worker" });
    this.#sockets.clear();
  }
}

/** A socket of a page that leads to the worker. */
class LinkSocket implements WebSocketLike {
  binaryType = "";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onclose: ((event: { code: number; reason: string } & never) => void) | null = null;
  onerror: ((event: { message?: unknown } & never) => void) | null = null;
  readonly #number: number;
  readonly #link: Link;

  constructor(number: number, link: Link) {
    this.#number = number;
    this.#link = link;
  }

  send(frame: string | Uint8Array): void {
    this.#link.say({ say: "frame", socket: this.#number, frame });
  }

  close(): void {
    this.#link.say({ say: "close", socket: this.#number });
  }

  hear(message: Extract<FromWorker, { readonly socket: number }>): void {
    if (message.say === "opened") this.onopen?.(undefined as never);
    else if (message.say === "closed") this.onclose?.({ code: message.code, reason: message.reason } as never);
    else this.onmessage?.({ data: typeof message.frame === "string" ? message.frame : message.frame.buffer } as never);
  }
}

/** Milliseconds between two signs of life of a page that has no locks. */
const ALIVE = 20_000;
