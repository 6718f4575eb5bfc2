// One page, as the worker sees it: its socket, its shares of subscriptions, and what waits to be passed on to it.

import type { Codec, Subscribed } from "hauyna";
import type { FromWorker } from "./shared-port.js";

/** A message of the wire. */
export interface Wire {
  readonly type: string;
  readonly channel?: unknown;
  readonly id?: unknown;
  readonly [field: string]: unknown;
}

/** What a page has said to a question for credentials. */
export interface Given {
  readonly token: string | undefined;
  /** It could not get them, or said nothing. */
  readonly hasFailed: boolean;
}

/** The messages of one channel on their way to one page. */
interface Flow {
  /** While above 0 they are kept. */
  pauses: number;
  readonly kept: Wire[];
  /** The contents that the page has published and does not want to get, in a channel without numbers. */
  readonly own: string[];
  /** What is said of presence while the page's list is being asked for. */
  presence?: Wire[] | undefined;
}

/** One page. */
export class Tab {
  readonly say: (message: FromWorker) => void;
  /** The number of the socket that has a session. */
  socket: number | undefined;
  /** The number of the socket that waits for one. */
  waiting: number | undefined;
  /** The page's client wants a connection, whatever becomes of its sockets. */
  isWanted = false;
  /** Why the connection was closed while the page had no socket that could be told: the next one is. */
  refusal: { readonly code: number; readonly reason: string } | undefined;
  /** The user whose credentials this page has shown. */
  vouchedFor: string | undefined;
  /** How often it was asked for the connection's credentials since it has given some that led to one. */
  timesAsked = 0;
  readonly #codec: Codec;
  readonly #after: (delay: number, run: () => void) => () => void;
  /** Subscriptions that are asked for: an answer to an earlier wish comes too late. */
  readonly #asks = new Map<string, symbol>();
  readonly #shares = new Map<string, Subscribed>();
  /** Those of the session before, until the page subscribes again or has not for a while. */
  readonly #earlier = new Map<string, Subscribed>();
  readonly #flows = new Map<string, Flow>();
  readonly #questions = new Map<string, { resolve(data: unknown): void; reject(error: Error): void }>();
  #credentials: { readonly id: number; readonly resolve: (given: Given) => void } | undefined;
  #cancelGrace = () => {};
  #ids = 0;

  constructor(say: (message: FromWorker) => void, codec: Codec, after: (delay: number, run: () => void) => () => void) {
    this.say = say;
    this.#codec = codec;
    this.#after = after;
  }

  /** Whether it has a share of the channel, or the application's server has subscribed it. */
  has(channel: string): boolean {
    return this.#shares.has(channel) || this.#earlier.has(channel) || this.#flows.has(channel);
  }

  /** What stands for one subscription of the page, where it gets the channel's messages. */
  flow(channel: string): object | undefined {
    return this.#flows.get(channel);
  }

  /** Every channel that {@link has} is true of. */
  get channels(): string[] {
    return [...new Set([...this.#shares.keys(), ...this.#earlier.keys(), ...this.#flows.keys()])];
  }

  /** The waiting socket has its session. */
  begin(socket: number): void {
    this.socket = socket;
    this.waiting = undefined;
    this.say({ say: "opened", socket });
    this.#cancelGrace();
    this.#cancelGrace = this.#after(GRACE, () => {
      for (const share of this.#earlier.values()) void share.unsubscribe();
      this.#earlier.clear();
    });
  }

  /** The socket ends. Its shares are kept for the next one, so that nobody is seen to leave meanwhile. */
  end(code: number, reason: string): void {
    const { socket, waiting } = this;
    this.socket = undefined;
    this.#cancelGrace();
    for (const [channel, share] of this.#shares) {
      void this.#earlier.get(channel)?.unsubscribe();
      this.#earlier.set(channel, share);
    }
    this.#shares.clear();
    this.#asks.clear();
    this.#flows.clear();
    this.#refuseQuestions();
    if (socket !== undefined) this.say({ say: "closed", socket, code, reason });
    if (waiting !== undefined && code !== LOST) this.turnAway(code, reason);
  }

  /** There will be no connection. */
  refuse(code: number, reason: string): void {
    if (this.socket === undefined && this.waiting === undefined) this.refusal = { code, reason };
    this.say({ say: "network", isThere: true });
    this.end(code, reason);
  }

  /** The waiting socket gets no session. */
  turnAway(code: number, reason: string): void {
    const { waiting } = this;
    this.waiting = undefined;
    if (waiting !== undefined) this.say({ say: "closed", socket: waiting, code, reason });
  }

  /** Sends to the page. */
  tell(message: Wire): void {
    const { socket } = this;
    if (socket !== undefined) this.say({ say: "frame", socket, frame: this.#codec.encode(message) });
  }

  /** Sends a message of a channel, where the page is subscribed; not what the page has published without an echo, as `user`. */
  pass(channel: string, message: Wire, user?: string): void {
    const flow = this.#flows.get(channel);
    if (!flow) return;
    if (flow.own.length > 0 && message.type === "message" && message["user"] === user) {
      const at = flow.own.indexOf(JSON.stringify(message["content"]));
      if (at >= 0) return void flow.own.splice(at, 1);
    }
    if (flow.presence && /^(presence_|occupancy$)/.test(message.type)) flow.presence.push(message);
    else if (flow.pauses > 0) flow.kept.push(message);
    else this.tell(message);
  }

  /** Keeps what is said of presence in the channel, until the returned function is called with the list that goes before it, if any. */
  holdPresence(channel: string): (list?: Wire) => void {
    const flow = this.#flows.get(channel);
    const kept: Wire[] = [];
    if (flow) flow.presence = kept;
    return (list) => {
      if (!flow || flow.presence !== kept) return;
      flow.presence = undefined;
      if (this.#flows.get(channel) !== flow) return;
      if (list) this.pass(channel, list);
      for (const message of kept) this.pass(channel, message);
    };
  }

  /** The application's server has subscribed the connection, and with it every page. */
  adopt(channel: string): void {
    if (this.socket !== undefined && !this.#flows.has(channel)) this.#flows.set(channel, { pauses: 0, kept: [], own: [] });
  }

  /** The server has ended the subscription: there is nothing left to give up. */
  ended(channel: string, message: Wire): void {
    // A page that still catches up is told by the answer.
    this.#asks.delete(channel);
    this.#shares.delete(channel);
    this.#earlier.delete(channel);
    if (this.#flows.delete(channel)) this.tell(message);
  }

  /** Begins to ask for a subscription; what it returns is {@link asked} until the page has changed its mind. */
  ask(channel: string): symbol {
    const ask = Symbol(channel);
    this.#asks.set(channel, ask);
    return ask;
  }

  asked(channel: string): symbol | undefined {
    return this.#asks.get(channel);
  }

  /** Takes a share, and keeps the channel's messages until what was missed has been sent. */
  hold(channel: string, share: Subscribed): { release(missed: readonly Wire[]): void } {
    void this.#earlier.get(channel)?.unsubscribe();
    this.#earlier.delete(channel);
    void this.#shares.get(channel)?.unsubscribe();
    this.#shares.set(channel, share);
    const flow: Flow = { pauses: 1, kept: [], own: [] };
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
    let isPaused = true;
    return {
      resume: (isOwn) => {
        if (!isPaused) return;
        isPaused = false;
        const own = flow.kept.findIndex(isOwn);
        if (own >= 0) flow.kept.splice(own, 1);
        if (this.#flows.get(channel) === flow) this.#resume(flow);
      },
    };
  }

  /** Leaves out the next message of the page's user with this content. Returns what takes that back. */
  leaveOut(channel: string, content: unknown): () => void {
    const own = this.#flows.get(channel)?.own;
    const text = JSON.stringify(content);
    own?.push(text);
    return () => {
      const at = own?.indexOf(text) ?? -1;
      if (at >= 0) own?.splice(at, 1);
    };
  }

  /** Gives up the share of one channel, or all. */
  async release(channel?: string): Promise<void> {
    const names = channel === undefined ? this.channels : [channel];
    const shares = names.flatMap((name) => [this.#shares.get(name), this.#earlier.get(name)]);
    for (const name of names) {
      this.#asks.delete(name);
      this.#shares.delete(name);
      this.#earlier.delete(name);
      this.#flows.delete(name);
    }
    if (channel === undefined) {
      this.#asks.clear();
      this.#cancelGrace();
      this.#refuseQuestions();
      this.#credentials?.resolve(NOTHING);
    }
    await Promise.all(shares.map((share) => share?.unsubscribe()));
  }

  /** Asks the page for credentials. */
  token(isRefresh: boolean): Promise<Given> {
    // A page that is frozen answers nothing: only the latest question is open.
    this.#credentials?.resolve(NOTHING);
    // Whoever signs in before it connects again is not known yet.
    if (!this.isWanted) return Promise.resolve(NOTHING);
    const id = ++this.#ids;
    this.say({ say: "token?", id, isRefresh });
    return new Promise((resolve) => (this.#credentials = { id, resolve }));
  }

  /** Somebody else may have signed in: what the page has shown means nothing, nor what it has been asked for. */
  doubt(): void {
    this.vouchedFor = undefined;
    this.#credentials?.resolve(NOTHING);
  }

  give(id: number, given: Given): void {
    if (this.#credentials?.id === id) this.#credentials.resolve(given);
    else if (given.token !== undefined) this.timesAsked = 0; // too slow, but not frozen
  }

  /** Passes a question of the server on. */
  question(event: string, data: unknown): Promise<unknown> {
    if (this.socket === undefined) return Promise.reject(new Error("nobody answers this"));
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

const NOTHING: Given = { token: undefined, hasFailed: true };
/** The close code with which a page comes back. */
export const LOST = 1006;
/** Milliseconds for a page to subscribe again after a reconnect. */
const GRACE = 10_000;
