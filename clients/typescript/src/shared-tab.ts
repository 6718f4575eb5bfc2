// One page, as the worker sees it: its socket, its shares of subscriptions, and what waits to be passed on to it.

import type { Codec, Subscribed } from "hauyna";
import type { FromWorker, Settings } from "./shared-port.js";

/** A message of the wire. */
export interface Wire {
  readonly type: string;
  readonly channel?: unknown;
  readonly id?: unknown;
  readonly [field: string]: unknown;
}

/** What the server has said about a channel. */
export interface Known {
  readonly channel: string;
  readonly recoverable: boolean;
  epoch?: string | undefined;
  offset?: number | undefined;
  client_events?: unknown;
  /** How the server has told who is present: by `presence_state`, by `occupancy`, or not. */
  presence?: string | undefined;
}

/** A socket of a page. */
export interface TabSocket {
  readonly number: number;
  readonly codec: Codec;
}

/** The messages of one channel on their way to one page. */
interface Flow {
  /** While above 0 they are kept. */
  pauses: number;
  readonly kept: Wire[];
}

/** One page. */
export class Tab {
  readonly say: (message: FromWorker) => void;
  settings: Settings | undefined;
  /** The socket that has a session. */
  socket: TabSocket | undefined;
  /** The socket that waits for the connection. */
  waiting: TabSocket | undefined;
  /** It has lost its socket with the connection, and will come back with it. */
  isAway = false;
  readonly #releases = new Map<string, number>();
  readonly #shares = new Map<string, Subscribed>();
  /** Those of the session before, until the page subscribes again or has not for a while. */
  #earlier = new Map<string, Subscribed>();
  readonly #flows = new Map<string, Flow>();
  readonly #questions = new Map<string, { resolve(data: unknown): void; reject(error: Error): void }>();
  #ids = 0;

  constructor(say: (message: FromWorker) => void) {
    this.say = say;
  }

  has(channel: string): boolean {
    return this.#shares.has(channel) || this.#earlier.has(channel);
  }

  /** A socket has its session. */
  begin(socket: TabSocket): void {
    this.socket = socket;
    this.waiting = undefined;
    this.isAway = false;
    this.say({ say: "opened", socket: socket.number });
    const earlier = this.#earlier;
    setTimeout(() => {
      for (const share of earlier.values()) void share.unsubscribe();
      earlier.clear();
    }, GRACE);
  }

  /** The socket ends. Its shares are kept for the next one, so that nobody is seen to leave meanwhile. */
  end(code: number, reason: string): void {
    const { socket } = this;
    this.isAway = code === 1006 && (socket !== undefined || this.isAway);
    if (socket) this.say({ say: "closed", socket: socket.number, code, reason });
    this.socket = undefined;
    if (socket) {
      for (const share of this.#earlier.values()) void share.unsubscribe();
      this.#earlier = new Map(this.#shares);
      this.#shares.clear();
    }
    this.#flows.clear();
    this.#refuseQuestions();
    if (this.waiting && code !== 1006) {
      this.say({ say: "closed", socket: this.waiting.number, code, reason });
      this.waiting = undefined;
    }
  }

  /** Sends to the page. */
  tell(message: Wire): void {
    const { socket } = this;
    if (!socket) return;
    const frame = socket.codec.encode(message);
    this.say({ say: "frame", socket: socket.number, frame });
  }

  /** Sends a message of a channel, where the page is subscribed. */
  pass(channel: string, message: Wire): void {
    const flow = this.#flows.get(channel);
    if (flow && flow.pauses > 0) flow.kept.push(message);
    else if (flow) this.tell(message);
  }

  /** The server has ended the subscription. */
  ended(channel: string, message: Wire): void {
    if (this.#flows.delete(channel)) this.tell(message);
    void this.release(channel);
  }

  /** Takes a share, and keeps the channel's messages until what was missed has been sent. */
  hold(channel: string, share: Subscribed): { release(missed: readonly Wire[]): void } {
    void this.#earlier.get(channel)?.unsubscribe();
    this.#earlier.delete(channel);
    void this.#shares.get(channel)?.unsubscribe();
    this.#shares.set(channel, share);
    const flow: Flow = { pauses: 1, kept: [] };
    this.#flows.set(channel, flow);
    return {
      release: (missed) => {
        if (this.#flows.get(channel) !== flow) return;
        for (const message of missed) this.tell(message);
        this.#resume(flow);
      },
    };
  }

  /** Keeps a channel's messages until it is known which one the page has itself sent. */
  pause(channel: string): { resume(isOwn: (message: Wire) => boolean): void } | undefined {
    const flow = this.#flows.get(channel);
    if (!flow) return undefined;
    flow.pauses++;
    return {
      resume: (isOwn) => {
        const own = flow.kept.findIndex(isOwn);
        if (own >= 0) flow.kept.splice(own, 1);
        if (this.#flows.get(channel) === flow) this.#resume(flow);
      },
    };
  }

  /** How often the page has given up its share of a channel: an answer to an earlier wish comes too late. */
  releasesOf(channel: string): number {
    return this.#releases.get(channel) ?? 0;
  }

  /** Gives up the share of one channel, or all. */
  async release(channel?: string): Promise<void> {
    const names = channel === undefined ? [...this.#shares.keys(), ...this.#earlier.keys()] : [channel];
    const shares = names.flatMap((name) => [this.#shares.get(name), this.#earlier.get(name)]);
    for (const name of names) {
      this.#releases.set(name, this.releasesOf(name) + 1);
      this.#shares.delete(name);
      this.#earlier.delete(name);
      this.#flows.delete(name);
    }
    if (channel === undefined) this.#refuseQuestions();
    await Promise.all(shares.map((share) => share?.unsubscribe()));
  }

  /** Passes a question of the server on. */
  ask(event: string, data: unknown): Promise<unknown> {
    if (!this.socket) return Promise.reject(new Error("nobody answers this"));
    const id = `worker-${++this.#ids}`;
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { resolve, reject });
      this.tell({ type: "request", id, event, data });
    });
  }

  /** Whether this is the answer to a question. */
  answered({ type, id, ...fields }: Wire): boolean {
    if (type !== "ack" && type !== "error") return false;
    const question = this.#questions.get(String(id));
    this.#questions.delete(String(id));
    if (type === "ack") question?.resolve(fields["data"]);
    else question?.reject(new Error(String(fields["message"])));
    return true;
  }

  #resume(flow: Flow): void {
    if (--flow.pauses > 0) return;
    for (const message of flow.kept.splice(0)) this.tell(message);
  }

  #refuseQuestions(): void {
    for (const { reject } of this.#questions.values()) reject(new Error("nobody answers this"));
    this.#questions.clear();
  }
}

/** Milliseconds for a page to subscribe again after a reconnect. */
const GRACE = 10_000;
