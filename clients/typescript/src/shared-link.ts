// The page's half: a client whose sockets lead to the shared worker, over one port. Where the worker cannot be used, or
// refuses to share, they lead to the server.

import { Client, type ClientOptions, type Contract, type Signal, type UrlLike, type WebSocketConstructor, type WebSocketLike, json } from "hauyna";
import { type PortLike, type SharedHost, hold, whenReleased } from "./shared-host.js";
import { type FromPage, type FromWorker, type Settings, VERSION } from "./shared-port.js";
import type { SharedWorkerLike } from "./shared.js";
import { type Shown, show } from "./shown.js";

type PageOptions = Omit<ClientOptions, "WebSocket" | "environment">;

/** A client whose sockets lead to a worker. */
export function linkedClient<T extends Contract>(url: string | UrlLike, worker: () => SharedWorkerLike, options: PageOptions, host: SharedHost): Client<T> {
  const link = new Link(url, worker, options, host);
  const { environment } = host;
  const { getToken } = options;
  const client = new LinkedClient<T>(url, {
    ...options,
    getToken: getToken && ((context) => ((link.isTokenSkipped = link.open()) ? undefined : getToken(context))),
    WebSocket: link.WebSocket,
    environment: {
      now: () => environment.now(),
      random: () => environment.random(),
      after: (delay, run) => environment.after(delay, run),
      isOnline: () => (link.isBroken ? environment.isOnline() : link.isThere),
      watch: (listener) => link.watch(listener),
    },
  });
  client.attach(link);
  const { reconnect } = client;
  // Also where there is no socket to close: the worker, connected again meanwhile, would take the next one for the page's own attempt.
  client.reconnect = () => {
    link.say({ say: "close", socket: NONE });
    reconnect();
  };
  return client;
}

/** The client of a page, whose credentials the worker asks for, and not the attempt. */
class LinkedClient<T extends Contract> extends Client<T> {
  #link: Link | undefined;

  attach(link: Link): void {
    this.#link = link;
    link.lastRequest = () => this.number();
  }

  protected override shown() {
    return this.#link && !this.#link.isBroken ? this.#link.shown : super.shown();
  }
}

/** The page's end of the port. */
class Link {
  /** The worker cannot be used: this page is on its own. */
  isBroken = false;
  /** The worker is connected, or has not said that it is not. */
  isThere = true;
  /** The attempt has not asked for credentials, since the worker does. */
  isTokenSkipped = false;
  /** The credentials that the page has given last for a session, and not to renew those of one. */
  readonly shown: Shown = { isGuest: true, number: 0, isNew: false };
  /** Returns the number of the last request of the page's client. */
  lastRequest = () => 0;
  readonly WebSocket: WebSocketConstructor;
  readonly #url: string | UrlLike;
  readonly #worker: () => SharedWorkerLike;
  readonly #options: PageOptions;
  readonly #host: SharedHost;
  readonly #sockets = new Map<number, LinkSocket>();
  readonly #watchers = new Set<(signal: Signal) => void>();
  #port: PortLike | undefined;
  /** The worker's latest question for credentials. */
  #tokenAsked = 0;
  /** What is said before the worker knows this page; undefined when it does. */
  #unsaid: FromPage[] | undefined;
  /** What the worker has been told since it has said something, and must answer. */
  #unanswered = 0;
  #release = () => {};
  #numbers = 0;
  #isWatchingPage = false;

  constructor(url: string | UrlLike, worker: () => SharedWorkerLike, options: PageOptions, host: SharedHost) {
    this.#url = url;
    this.#worker = worker;
    this.#options = options;
    this.#host = host;
    const link = this;
    this.WebSocket = class {
      constructor(address: string, protocols: string[]) {
        return link.#socket(address, protocols) as never;
      }
    } as unknown as WebSocketConstructor;
  }

  say(message: FromPage): void {
    if (this.#unsaid) this.#unsaid.push(message);
    else this.#port?.postMessage(message);
  }

  /** The signals of the page, and that of the worker's connection. */
  watch(listener: (signal: Signal) => void): () => void {
    this.#watchers.add(listener);
    const off = this.#host.environment.watch((signal) => {
      // The network is the worker's affair. A page that is looked at asks whether its worker still lives.
      if (this.isBroken || signal === "visible") listener(signal);
      if (signal === "visible" && !this.isThere) this.say({ say: "retry" });
    });
    return () => {
      this.#watchers.delete(listener);
      off();
      // Closed: what is still being asked for is for what was asked before.
      this.shown.isNew = true;
      this.#tokenAsked = 0;
      this.say({ say: "close", socket: 0 });
    };
  }

  /** The page has given up a socket. A worker that has not said a word to it is taken for dead. */
  close(number: number): void {
    this.say({ say: "close", socket: number });
    if (this.#sockets.delete(number) && this.#unanswered > 0) this.#reset("no answer of the shared worker");
  }

  #socket(url: string, protocols: string[]): WebSocketLike {
    const isLinked = this.open();
    if (!isLinked && !this.isTokenSkipped) return new (this.#host.WebSocket ?? (globalThis.WebSocket as unknown as WebSocketConstructor))(url, protocols);
    const number = ++this.#numbers;
    const socket = new LinkSocket(number, this);
    if (!isLinked) {
      // Broken since then: without credentials it would be nobody's. The next attempt has them.
      this.#host.environment.after(0, () => socket.hear({ say: "closed", socket: number, code: 1006, reason: "no token" }));
      return socket;
    }
    this.#sockets.set(number, socket);
    this.#unanswered++;
    this.say({ say: "open", socket: number });
    return socket;
  }

  /** Leads to the worker, unless it cannot be used: whether it can is known before credentials are needed. */
  open(): boolean {
    if (!this.isBroken) this.#connect();
    return !this.isBroken;
  }

  #connect(): void {
    if (!this.#isWatchingPage) this.#host.onShown((isShown) => this.#show(isShown));
    this.#isWatchingPage = true;
    let port = this.#port;
    if (!port) {
      try {
        const worker = this.#worker();
        port = this.#port = worker.port;
        worker.addEventListener("error", () => port === this.#port && this.#break("no shared worker"));
      } catch {
        return this.#break("no shared worker");
      }
      port.onmessage = ({ data }: MessageEvent<FromWorker>) => port === this.#port && this.#hear(data);
      port.onclose = () => port === this.#port && this.#reset("the shared worker has ended");
      void this.#introduce(port);
    }
  }

  async #introduce(port: PortLike): Promise<void> {
    this.#unsaid = [];
    const { name: lock, release } = await hold(this.#host, "hauyna");
    if (port !== this.#port) return release();
    const unsaid = this.#unsaid;
    this.#unsaid = undefined;
    this.#release = release;
    this.say({ say: "hello", version: VERSION, lock, settings: this.#settings() });
    for (const message of unsaid) this.say(message);
    this.#stayAlive(port);
  }

  /** Copied by value: the options of an application may be proxies, which no port takes. */
  #settings(): Settings {
    const { retry, timeout, connectTimeout, getToken, codec = json } = this.#options;
    const url = new URL(`${this.#url}`, globalThis.location?.href).href;
    const own = retry && (JSON.parse(JSON.stringify(retry)) as typeof retry);
    return { url, protocol: codec.protocol, hasToken: getToken !== undefined, retry: own, timeout, connectTimeout };
  }

  /** Without locks each knows of the other by these alone; with them a worker is found out that has ended before it said its own. */
  #stayAlive(port: PortLike): void {
    this.#host.environment.after(ALIVE, () => {
      if (port !== this.#port) return;
      // A page that was frozen hears late of what was answered.
      if (++this.#unanswered > 2) return this.#reset("no sign of life of the shared worker");
      this.say({ say: "alive" });
      this.#stayAlive(port);
    });
  }

  #hear(message: FromWorker): void {
    this.#unanswered = 0;
    const { say } = message;
    if (say === "alive") return;
    if (say === "network") this.#network(message.isThere);
    else if (say === "token?") void this.#giveToken(message.id, message.isRefresh);
    else if (say === "welcome") {
      const port = this.#port;
      whenReleased(this.#host, message.lock, () => port === this.#port && this.#reset("the shared worker has ended"));
    } else if (say === "gone") this.#reset("the shared worker took this page for gone");
    else if (say === "alone") this.#break("the connection cannot be shared");
    else {
      const socket = this.#sockets.get(message.socket);
      if (say === "closed") this.#sockets.delete(message.socket);
      socket?.hear(message);
    }
  }

  #network(isThere: boolean): void {
    this.isThere = isThere;
    for (const watcher of [...this.#watchers]) watcher(isThere ? "online" : "offline");
  }

  async #giveToken(id: number, isRefresh: boolean): Promise<void> {
    const port = this.#port;
    this.#tokenAsked = id;
    let token: string | undefined;
    let hasFailed = false;
    try {
      const given: unknown = await this.#options.getToken?.({ isRefresh });
      if (given != null) token = String(given);
    } catch (error) {
      hasFailed = true;
      this.#options.logger?.warn("no token", { error });
    }
    // Another worker may have asked under the same number, after somebody else has signed in.
    if (port !== this.#port) return;
    if (!hasFailed && !isRefresh && id === this.#tokenAsked) show(this.shown, token, this.lastRequest());
    this.say({ say: "token", id, token, hasFailed });
  }

  /** A page that ends, or may end in the cache, says goodbye, and looks for no other worker until it is shown again. */
  #show(isShown: boolean): void {
    if (this.isBroken) return;
    if (isShown && !this.#port) this.#network(true);
    else if (!isShown && this.#port) this.#reset("the page is hidden", false);
  }

  /** This worker knows this page no more, whichever of them has ended. The next socket leads to a worker that may be new. */
  #reset(reason: string, isThere = true): void {
    this.#unsaid = undefined;
    this.say({ say: "bye" });
    this.#port = undefined;
    this.#unanswered = 0;
    this.#release();
    this.isThere = isThere;
    this.#closeAll(reason);
    // Nothing is known of the network any more: who has waited for it tries.
    this.#network(isThere);
  }

  /** The script of the worker cannot be loaded, or fails, or does not share: this page opens a socket of its own. */
  #break(reason: string): void {
    this.isBroken = true;
    this.#reset(reason);
  }

  #closeAll(reason: string): void {
    const sockets = [...this.#sockets];
    this.#sockets.clear();
    for (const [socket, open] of sockets) open.hear({ say: "closed", socket, code: 1006, reason });
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
    this.#link.close(this.#number);
  }

  hear(message: Extract<FromWorker, { readonly socket: number }>): void {
    if (message.say === "opened") this.onopen?.(undefined as never);
    else if (message.say === "closed") this.onclose?.({ code: message.code, reason: message.reason } as never);
    else this.onmessage?.({ data: typeof message.frame === "string" ? message.frame : message.frame.slice().buffer } as never);
  }
}

/** The number of no socket. */
const NONE = -1;
/** Milliseconds between two signs of life. */
const ALIVE = 20_000;
