// The environment of one client in a test: a clock that the test advances, chosen random numbers, a network
// and a page that it switches, and sockets whose other end it holds.

import { Client, type ClientOptions, type Environment, type Signal, type WebSocketLike } from "../src/index.js";
import type { ServerMessage } from "../src/protocol.js";

interface Timer {
  at: number;
  run: () => void;
}

/** Time, randomness, network and page of a test. */
export class World implements Environment {
  time = 1_000_000;
  /** The next random number. */
  chance = 0.5;
  online = true;
  readonly sockets: Peer[] = [];
  #timers: Timer[] = [];
  readonly #watchers = new Set<(signal: Signal) => void>();

  now(): number {
    return this.time;
  }

  random(): number {
    return this.chance;
  }

  after(delay: number, run: () => void): () => void {
    const timer = { at: this.time + delay, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  isOnline(): boolean {
    return this.online;
  }

  watch(listener: (signal: Signal) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** How many timers are set. */
  get timers(): number {
    return this.#timers.length;
  }

  /** How many listeners the network and the page have. */
  get watchers(): number {
    return this.#watchers.size;
  }

  /** Advances the time by `duration` milliseconds, and runs everything that becomes due. */
  async pass(duration: number): Promise<void> {
    const end = this.time + duration;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
      if (!next) break;
      this.time = Math.max(this.time, next.at);
      this.#timers = this.#timers.filter((other) => other !== next);
      next.run();
      await settle();
    }
    this.time = end;
  }

  /** Makes the machine sleep: the time advances, and no timer runs. */
  async sleep(duration: number): Promise<void> {
    this.time += duration;
    await this.pass(0);
  }

  /** Sets the clock back, without effect on the timers. */
  setBack(duration: number): void {
    this.time -= duration;
    for (const timer of this.#timers) timer.at -= duration;
  }

  async tell(signal: Signal): Promise<void> {
    if (signal !== "visible") this.online = signal === "online";
    for (const watcher of this.#watchers) watcher(signal);
    await settle();
  }

  /** The newest socket. */
  get socket(): Peer {
    const newest = this.sockets.at(-1);
    if (!newest) throw new Error("no socket was opened");
    return newest;
  }

  /** Returns a client of this world that is not connected. */
  client(options: ClientOptions = {}): Client {
    const world = this;
    class Fake extends Peer {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        world.sockets.push(this);
      }
    }
    return new Client("wss://server.example/live", { environment: this, WebSocket: Fake, logger: SILENT, ...options });
  }

  /** Returns a client of this world that is connected. */
  async connected(options: ClientOptions = {}, session: object = {}): Promise<Client> {
    const client = this.client(options);
    void client.connect().catch(() => {});
    await settle();
    await this.socket.accept(session);
    return client;
  }

  /** Advances the time until the next socket is opened. */
  async attempt(): Promise<Peer> {
    const before = this.sockets.length;
    for (let n = 0; n < 1000 && this.sockets.length === before; n++) await this.pass(100);
    if (this.sockets.length === before) throw new Error("there was no attempt");
    return this.socket;
  }

  /** Drops the connection, and accepts the next one with this session. */
  async lose(session: object = {}): Promise<Peer> {
    await this.socket.drop();
    await this.attempt();
    await this.socket.accept(session);
    return this.socket;
  }
}

/** The other end of one socket. */
export class Peer implements WebSocketLike {
  binaryType = "";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onclose: ((event: { code: number; reason: string } & never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  /** All messages that the client has sent, oldest first. */
  readonly heard: ServerMessage[] = [];
  /** The code and the reason with which the client has closed. */
  closed: { code: number | undefined; reason: string | undefined } | undefined;

  readonly url: string;
  readonly protocols: string[];

  constructor(url: string, protocols: string[]) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data: string | Uint8Array): void {
    if (typeof data !== "string") throw new Error("only JSON is spoken here");
    this.heard.push(JSON.parse(data));
  }

  close(code?: number, reason?: string): void {
    this.closed ??= { code, reason };
  }

  async open(): Promise<void> {
    this.onopen?.(undefined as never);
    await settle();
  }

  async accept(session: object = {}): Promise<void> {
    await this.open();
    await this.say({ type: "session", connection_id: "c-1", user: "ana", ...session });
  }

  async say(...messages: object[]): Promise<void> {
    for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) } as never);
    await settle();
  }

  /** Ends the socket with a code; 1006 ends it without a close frame, as a lost network does. */
  async drop(code = 1006, reason = ""): Promise<void> {
    this.onclose?.({ code, reason } as never);
    await settle();
  }

  /** Ends the socket as some runtimes do: with an error that no close event follows. */
  async fail(message?: string): Promise<void> {
    this.onerror?.({ message } as never);
    await settle();
  }

  /** Returns the newest request of this type. */
  last(type: string): ServerMessage {
    const found = this.heard.findLast((message) => message.type === type);
    if (!found) throw new Error(`no ${type} was sent, but ${JSON.stringify(this.heard)}`);
    return found;
  }

  all(type: string): ServerMessage[] {
    return this.heard.filter((message) => message.type === type);
  }

  /** Acknowledges the newest request of this type. */
  async ack(type: string, data?: object): Promise<void> {
    await this.say({ type: "ack", id: this.last(type)["id"], data });
  }

  async refuse(type: string, error_type: string, fields: object = {}): Promise<void> {
    const id = this.last(type)["id"];
    await this.say({ type: "error", id, error_type, message: "no", timestamp: 1, temporary: false, ...fields });
  }
}

/** Lets pending promises run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Returns the current outcome of a promise: its value, its failure's kind, or nothing yet. */
export function fate(promise: Promise<unknown>): { now: unknown } {
  const fate: { now: unknown } = { now: "pending" };
  promise.then(
    (value) => (fate.now = value ?? "done"),
    (error) => (fate.now = error.kind ?? error),
  );
  return fate;
}

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
