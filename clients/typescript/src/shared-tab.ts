// One page from the worker's point of view: its socket, its shares of subscriptions, and the messages that
// wait for it.

import type { Codec, Subscribed } from "hauyna";
import type { FromWorker } from "./shared-port.js";

/** A message on the wire. */
export interface Wire {
  readonly type: string;
  readonly channel?: unknown;
  readonly id?: unknown;
  readonly [field: string]: unknown;
}

/** A page's answer to a request for credentials. */
export interface Given {
  readonly token: string | undefined;
  /** Whether the page failed to get them, or did not answer. */
  readonly hasFailed: boolean;
}

/** The messages of one channel on their way to one page. */
interface Flow {
  /** While it is above 0, messages are held. */
  pauses: number;
  readonly kept: Wire[];
  /** The contents that the page has published without an echo, in a channel without offsets. */
  readonly own: string[];
  /** The presence messages that are held while the page's list is being requested. */
  presence?: Wire[] | undefined;
}

/** One page. */
export class Tab {
  readonly say: (message: FromWorker) => void;
  /** The number of the socket that has a session. */
  socket: number | undefined;
  /** The number of the socket that waits for a session. */
  waiting: number | undefined;
  /** Whether the page's client wants a connection, independent of its sockets. */
  isWanted = false;
  /** The reason why the connection was closed while the page had no socket. The next socket receives it. */
  refusal: { readonly code: number; readonly reason: string } | undefined;
  /** The user whose credentials this page has shown. */
  vouchedFor: string | undefined;
  /** How often the page was asked for credentials since those that it gave led to a connection. */
  timesAsked = 0;
  /** The requests without an answer. */
  readonly requests = new Set<{ readonly frame: string | Uint8Array }>();
  readonly #codec: Codec;
  readonly #after: (delay: number, run: () => void) => () => void;
  /** The pending subscribe requests. An answer to an earlier request is ignored. */
  readonly #asks = new Map<string, symbol>();
  readonly #shares = new Map<string, Subscribed>();
  /** The shares of the previous session, until the page subscribes again or a timeout ends them. */
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

  /** Whether the page has a share of the channel, or the server's application has subscribed it. */
  has(channel: string): boolean {
    return this.#shares.has(channel) || this.#earlier.has(channel) || this.#flows.has(channel);
  }

  /**
   * Returns an object that identifies the page's current subscription, if it receives the channel's messages.
   */
  flow(channel: string): object | undefined {
    return this.#flows.get(channel);
  }

  /** The channels for which {@link has} is true. */
  get channels(): string[] {
    return [...new Set([...this.#shares.keys(), ...this.#earlier.keys(), ...this.#flows.keys()])];
  }

  /** Gives the waiting socket its session. */
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

  /** Ends the socket. Its shares are kept for the next one, so that nobody sees the user leave meanwhile. */
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

  /** Refuses a connection to the page. */
  refuse(code: number, reason: string): void {
    if (this.socket === undefined && this.waiting === undefined) this.refusal = { code, reason };
    this.say({ say: "network", isThere: true });
    this.end(code, reason);
  }

  /** Closes the waiting socket without a session. */
  turnAway(code: number, reason: string): void {
    const { waiting } = this;
    this.waiting = undefined;
    if (waiting !== undefined) this.say({ say: "closed", socket: waiting, code, reason });
  }

  /** Sends a message to the page. */
  tell(message: Wire): void {
    const { socket } = this;
    if (socket !== undefined) this.say({ say: "frame", socket, frame: this.#codec.encode(message) });
  }

  /**
   * Sends a message of a channel, if the page is subscribed. Leaves out what the page published without an
   * echo, as `user`.
   */
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

  /**
   * Holds the presence messages of a channel, until the returned function is called with the list that
   * precedes them, if there is one.
   */
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

  /**
   * Adds a channel to which the server's application has subscribed the connection, and thereby every page.
   */
  adopt(channel: string): void {
    if (this.socket !== undefined && !this.#flows.has(channel)) this.#flows.set(channel, { pauses: 0, kept: [], own: [] });
  }

  /** Removes a channel whose subscription the server has ended. */
  ended(channel: string, message: Wire): void {
    // A page that still catches up learns it from the answer.
    this.#asks.delete(channel);
    this.#shares.delete(channel);
    this.#earlier.delete(channel);
    if (this.#flows.delete(channel)) this.tell(message);
  }

  /** Starts a subscribe request. {@link asked} returns the same symbol as long as it is the current one. */
  ask(channel: string): symbol {
    const ask = Symbol(channel);
    this.#asks.set(channel, ask);
    return ask;
  }

  asked(channel: string): symbol | undefined {
    return this.#asks.get(channel);
  }

  /** Keeps a share, and holds the channel's messages until the missed ones are sent. */
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

  /** Holds a channel's messages until it is known which of them the page itself has published. */
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

  /** Leaves out the next message of the page's user with this content. The returned function cancels that. */
  leaveOut(channel: string, content: unknown): () => void {
    const own = this.#flows.get(channel)?.own;
    const text = JSON.stringify(content);
    own?.push(text);
    return () => {
      const at = own?.indexOf(text) ?? -1;
      if (at >= 0) own?.splice(at, 1);
    };
  }

  /** Ends the share of one channel, or all shares. */
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
    // A frozen page does not answer, so only the latest request is open.
    this.#credentials?.resolve(NOTHING);
    // The user who signs in before the page connects again is not known yet.
    if (!this.isWanted) return Promise.resolve(NOTHING);
    const id = ++this.#ids;
    this.say({ say: "token?", id, isRefresh });
    return new Promise((resolve) => (this.#credentials = { id, resolve }));
  }

  /**
   * Forgets what the page has shown, and its pending request for credentials, because another user may have
   * signed in.
   */
  doubt(): void {
    this.vouchedFor = undefined;
    this.#credentials?.resolve(NOTHING);
  }

  give(id: number, given: Given): void {
    if (this.#credentials?.id === id) this.#credentials.resolve(given);
    // The answer was slow, but the page is not frozen.
    else if (given.token !== undefined) this.timesAsked = 0;
  }

  /** Passes a client request to the page. */
  question(event: string, data: unknown): Promise<unknown> {
    if (this.socket === undefined) return Promise.reject(new Error("nobody answers this"));
    const id = `worker-${++this.#ids}`;
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { resolve, reject });
      this.tell({ type: "request", id, event, data });
    });
  }

  /** Whether the message answers a client request. */
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
/** The close code after which a page reconnects. */
export const LOST = 1006;
/** Milliseconds that a page has to subscribe again after a reconnect. */
const GRACE = 10_000;
