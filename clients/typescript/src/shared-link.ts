// The page's side of a shared connection: a client whose sockets lead to the shared worker over one port. If
// the worker cannot be used, or refuses to share, they lead to the server.

import {
  Client,
  type ClientOptions,
  type Contract,
  type Signal,
  type UrlLike,
  type WebSocketConstructor,
  type WebSocketLike,
  json,
} from "hauyna";
import { type ShownCredentials, noteCredentials } from "./credentials.js";
import { type PortLike, type SharedHost, holdLock, whenReleased } from "./shared-host.js";
import { type FromPage, type FromWorker, type Settings, VERSION } from "./shared-messages.js";
import type { SharedWorkerLike } from "./shared.js";

type PageOptions = Omit<ClientOptions, "WebSocket" | "environment">;

/** Creates a client whose sockets lead to a worker. */
export function linkedClient<T extends Contract>(
  url: string | UrlLike,
  worker: () => SharedWorkerLike,
  options: PageOptions,
  host: SharedHost,
): Client<T> {
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
      isOnline: () => (link.isBroken ? environment.isOnline() : link.isOnline),
      watch: (listener) => link.watch(listener),
    },
  });
  client.attach(link);
  const { reconnect } = client;
  // The worker must hear of this even if there is no socket to close. Otherwise it would take the next socket
  // for one that the page opened by itself.
  client.reconnect = () => {
    link.post({ say: "close", socket: NO_SOCKET });
    reconnect();
  };
  return client;
}

/** The client of a page. The worker asks it for credentials, instead of the attempt. */
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
  /** Whether the worker cannot be used, so that this page connects by itself. */
  isBroken = false;
  /** Whether the worker is connected, or has not reported otherwise. */
  isOnline = true;
  /** Whether the attempt skipped getToken, because the worker asks for the credentials. */
  isTokenSkipped = false;
  /** The credentials that the page gave last for a session. Renewals do not count. */
  readonly shown: ShownCredentials = { isGuest: true, number: 0, isNew: false };
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
  /** The worker's latest request for credentials. */
  #latestTokenRequest = 0;
  /** The messages that wait until the worker knows this page; undefined afterwards. */
  #queued: FromPage[] | undefined;
  /** How many messages that need an answer were sent since the worker's last message. */
  #unanswered = 0;
  #releaseLock = () => {};
  #socketCount = 0;
  #isWatchingPage = false;

  constructor(url: string | UrlLike, worker: () => SharedWorkerLike, options: PageOptions, host: SharedHost) {
    this.#url = url;
    this.#worker = worker;
    this.#options = options;
    this.#host = host;
    const link = this;
    this.WebSocket = class {
      constructor(address: string, protocols: string[]) {
        return link.#createSocket(address, protocols) as never;
      }
    } as unknown as WebSocketConstructor;
  }

  post(message: FromPage): void {
    if (this.#queued) this.#queued.push(message);
    else this.#port?.postMessage(message);
  }

  /** Reports the signals of the page, and those of the worker's connection. */
  watch(listener: (signal: Signal) => void): () => void {
    this.#watchers.add(listener);
    const removeListener = this.#host.environment.watch((signal) => {
      // The worker watches the network. A visible page checks whether its worker still lives.
      if (this.isBroken || signal === "visible") listener(signal);
      if (signal === "visible" && !this.isOnline) this.post({ say: "retry" });
    });
    return () => {
      this.#watchers.delete(listener);
      removeListener();
      // The client is closed, so pending credentials belong to earlier requests.
      this.shown.isNew = true;
      this.#latestTokenRequest = 0;
      this.post({ say: "close", socket: 0 });
    };
  }

  /** Closes a socket. A worker that has not answered at all counts as ended. */
  close(number: number): void {
    this.post({ say: "close", socket: number });
    if (this.#sockets.delete(number) && this.#unanswered > 0) this.#disconnect("no answer of the shared worker");
  }

  #createSocket(url: string, protocols: string[]): WebSocketLike {
    const isLinked = this.open();
    if (!isLinked && !this.isTokenSkipped) {
      return new (this.#host.WebSocket ?? (globalThis.WebSocket as unknown as WebSocketConstructor))(url, protocols);
    }
    const number = ++this.#socketCount;
    const socket = new LinkSocket(number, this);
    if (!isLinked) {
      // The worker failed after getToken was skipped, and a connection without credentials would belong to
      // nobody. The next attempt has them.
      this.#host.environment.after(0, () => socket.receive({ say: "closed", socket: number, code: 1006, reason: "no token" }));
      return socket;
    }
    this.#sockets.set(number, socket);
    this.#unanswered++;
    this.post({ say: "open", socket: number });
    return socket;
  }

  /** Connects to the worker, unless it cannot be used. The result is known before credentials are needed. */
  open(): boolean {
    if (!this.isBroken) this.#connectPort();
    return !this.isBroken;
  }

  #connectPort(): void {
    if (!this.#isWatchingPage) this.#host.onShown((isShown) => this.#handleVisibility(isShown));
    this.#isWatchingPage = true;
    let port = this.#port;
    if (!port) {
      try {
        const worker = this.#worker();
        port = this.#port = worker.port;
        worker.addEventListener("error", () => port === this.#port && this.#stopSharing("no shared worker"));
      } catch {
        return this.#stopSharing("no shared worker");
      }
      port.onmessage = ({ data }: MessageEvent<FromWorker>) => port === this.#port && this.#receive(data);
      port.onclose = () => port === this.#port && this.#disconnect("the shared worker has ended");
      void this.#sayHello(port);
    }
  }

  async #sayHello(port: PortLike): Promise<void> {
    this.#queued = [];
    const { name: lock, release } = await holdLock(this.#host, "hauyna");
    if (port !== this.#port) return release();
    const queued = this.#queued;
    this.#queued = undefined;
    this.#releaseLock = release;
    this.post({ say: "hello", version: VERSION, lock, settings: this.#copySettings() });
    for (const message of queued) this.post(message);
    this.#scheduleAlive(port);
  }

  /** Returns a copy of the options, which may be proxies that a port cannot clone. */
  #copySettings(): Settings {
    const { retry, timeout, connectTimeout, getToken, codec = json } = this.#options;
    const url = new URL(`${this.#url}`, globalThis.location?.href).href;
    const retryCopy = retry && (JSON.parse(JSON.stringify(retry)) as typeof retry);
    return { url, protocol: codec.protocol, hasToken: getToken !== undefined, retry: retryCopy, timeout, connectTimeout };
  }

  /**
   * Sends signs of life. Without locks they are the only ones; with locks they reveal a worker that ended
   * before it named its lock.
   */
  #scheduleAlive(port: PortLike): void {
    this.#host.environment.after(ALIVE_INTERVAL, () => {
      if (port !== this.#port) return;
      // A frozen page receives answers late.
      if (++this.#unanswered > 2) return this.#disconnect("no sign of life of the shared worker");
      this.post({ say: "alive" });
      this.#scheduleAlive(port);
    });
  }

  #receive(message: FromWorker): void {
    this.#unanswered = 0;
    const { say } = message;
    if (say === "alive") return;
    if (say === "network") this.#setNetwork(message.isThere);
    else if (say === "token?") void this.#answerTokenRequest(message.id, message.isRefresh);
    else if (say === "welcome") {
      const port = this.#port;
      whenReleased(this.#host, message.lock, () => port === this.#port && this.#disconnect("the shared worker has ended"));
    } else if (say === "gone") this.#disconnect("the shared worker took this page for gone");
    else if (say === "alone") this.#stopSharing("the connection cannot be shared");
    else {
      const socket = this.#sockets.get(message.socket);
      if (say === "closed") this.#sockets.delete(message.socket);
      socket?.receive(message);
    }
  }

  #setNetwork(isOnline: boolean): void {
    this.isOnline = isOnline;
    for (const watcher of [...this.#watchers]) watcher(isOnline ? "online" : "offline");
  }

  async #answerTokenRequest(id: number, isRefresh: boolean): Promise<void> {
    const port = this.#port;
    this.#latestTokenRequest = id;
    let token: string | undefined;
    let hasFailed = false;
    try {
      const value: unknown = await this.#options.getToken?.({ isRefresh });
      if (value != null) token = String(value);
    } catch (error) {
      hasFailed = true;
      this.#options.logger?.warn("no token", { error });
    }
    // Another worker may use the same number, after another user has signed in.
    if (port !== this.#port) return;
    if (!hasFailed && !isRefresh && id === this.#latestTokenRequest) noteCredentials(this.shown, token, this.lastRequest());
    this.post({ say: "token", id, token, hasFailed });
  }

  /**
   * Leaves the worker when the page is hidden, because it may end in the cache, and returns when the page is
   * shown.
   */
  #handleVisibility(isShown: boolean): void {
    if (this.isBroken) return;
    if (isShown && !this.#port) this.#setNetwork(true);
    else if (!isShown && this.#port) this.#disconnect("the page is hidden", false);
  }

  /**
   * Disconnects from this worker, because it or the page has ended for the other. The next socket may lead to
   * a new worker.
   */
  #disconnect(reason: string, isOnline = true): void {
    this.#queued = undefined;
    this.post({ say: "bye" });
    this.#port = undefined;
    this.#unanswered = 0;
    this.#releaseLock();
    this.isOnline = isOnline;
    this.#closeSockets(reason);
    // The state of the network is unknown, so a client that waits for it tries now.
    this.#setNetwork(isOnline);
  }

  /**
   * Stops using the worker, because its script fails or it does not share. The page opens its own sockets
   * from now on.
   */
  #stopSharing(reason: string): void {
    this.isBroken = true;
    this.#disconnect(reason);
  }

  #closeSockets(reason: string): void {
    const sockets = [...this.#sockets];
    this.#sockets.clear();
    for (const [socket, open] of sockets) open.receive({ say: "closed", socket, code: 1006, reason });
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
    this.#link.post({ say: "frame", socket: this.#number, frame });
  }

  close(): void {
    this.#link.close(this.#number);
  }

  receive(message: Extract<FromWorker, { readonly socket: number }>): void {
    if (message.say === "opened") this.onopen?.(undefined as never);
    else if (message.say === "closed") this.onclose?.({ code: message.code, reason: message.reason } as never);
    else this.onmessage?.({ data: typeof message.frame === "string" ? message.frame : message.frame.slice().buffer } as never);
  }
}

/** A number that no socket has. */
const NO_SOCKET = -1;
/** Milliseconds between two signs of life. */
const ALIVE_INTERVAL = 20_000;
