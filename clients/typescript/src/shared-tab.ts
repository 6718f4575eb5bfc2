// One page from the worker's point of view: its socket, its shares of subscriptions, and the messages that
// wait for it.

import type { Codec, Subscribed } from "hauyna";
import type { FromWorker } from "./shared-messages.js";

/** A message on the wire. */
export interface Wire {
  readonly type: string;
  readonly channel?: unknown;
  readonly id?: unknown;
  readonly [field: string]: unknown;
}

/** A page's answer to a request for credentials. */
export interface TokenAnswer {
  readonly token: string | undefined;
  /** Whether the page failed to get them, or did not answer. */
  readonly hasFailed: boolean;
}

/** The messages of one channel on their way to one page. */
interface Flow {
  /** While it is above 0, messages are held. */
  pauses: number;
  readonly held: Wire[];
  /** The contents that the page has published without an echo, in a channel without offsets. */
  readonly suppressed: string[];
  /** The presence messages that are held while the page's list is being requested. */
  heldPresence?: Wire[] | undefined;
}

/** One page. */
export class Tab {
  readonly post: (message: FromWorker) => void;
  /** The number of the socket that has a session. */
  currentSocket: number | undefined;
  /** The number of the socket that waits for a session. */
  waitingSocket: number | undefined;
  /** Whether the page's client wants a connection, independent of its sockets. */
  isWanted = false;
  /** The reason why the connection was closed while the page had no socket. The next socket receives it. */
  refusal: { readonly code: number; readonly reason: string } | undefined;
  /** The user whose credentials this page has shown. */
  verifiedUser: string | undefined;
  /** How often the page was asked for credentials since those that it gave led to a connection. */
  timesAsked = 0;
  readonly #codec: Codec;
  readonly #after: (delay: number, run: () => void) => () => void;
  /** The pending subscribe requests. An answer to an earlier request is ignored. */
  readonly #pendingSubscribes = new Map<string, symbol>();
  readonly #shares = new Map<string, Subscribed>();
  /** The shares of the previous session, until the page subscribes again or a timeout ends them. */
  readonly #formerShares = new Map<string, Subscribed>();
  readonly #flows = new Map<string, Flow>();
  readonly #clientRequests = new Map<string, { resolve(data: unknown): void; reject(error: Error): void }>();
  #tokenRequest: { readonly id: number; readonly resolve: (answer: TokenAnswer) => void } | undefined;
  #cancelTimeout = () => {};
  #requestCount = 0;

  constructor(post: (message: FromWorker) => void, codec: Codec, after: (delay: number, run: () => void) => () => void) {
    this.post = post;
    this.#codec = codec;
    this.#after = after;
  }

  /** Whether the page has a share of the channel, or the server's application has subscribed it. */
  has(channel: string): boolean {
    return this.#shares.has(channel) || this.#formerShares.has(channel) || this.#flows.has(channel);
  }

  /**
   * Returns an object that identifies the page's current subscription, if it receives the channel's messages.
   */
  currentFlow(channel: string): object | undefined {
    return this.#flows.get(channel);
  }

  /** The channels for which {@link has} is true. */
  get channels(): string[] {
    return [...new Set([...this.#shares.keys(), ...this.#formerShares.keys(), ...this.#flows.keys()])];
  }

  /** Gives the waiting socket its session. */
  startSession(socket: number): void {
    this.currentSocket = socket;
    this.waitingSocket = undefined;
    this.post({ say: "opened", socket });
    this.#cancelTimeout();
    this.#cancelTimeout = this.#after(RESUBSCRIBE_TIMEOUT, () => {
      for (const share of this.#formerShares.values()) void share.unsubscribe();
      this.#formerShares.clear();
    });
  }

  /** Ends the socket. Its shares are kept for the next one, so that nobody sees the user leave meanwhile. */
  endSession(code: number, reason: string): void {
    const { currentSocket, waitingSocket } = this;
    this.currentSocket = undefined;
    this.#cancelTimeout();
    for (const [channel, share] of this.#shares) {
      void this.#formerShares.get(channel)?.unsubscribe();
      this.#formerShares.set(channel, share);
    }
    this.#shares.clear();
    this.#pendingSubscribes.clear();
    this.#flows.clear();
    this.#refuseClientRequests();
    if (currentSocket !== undefined) this.post({ say: "closed", socket: currentSocket, code, reason });
    if (waitingSocket !== undefined && code !== LOST) this.closeWaiting(code, reason);
  }

  /** Refuses a connection to the page. */
  refuseConnection(code: number, reason: string): void {
    if (this.currentSocket === undefined && this.waitingSocket === undefined) this.refusal = { code, reason };
    this.post({ say: "network", isThere: true });
    this.endSession(code, reason);
  }

  /** Closes the waiting socket without a session. */
  closeWaiting(code: number, reason: string): void {
    const { waitingSocket } = this;
    this.waitingSocket = undefined;
    if (waitingSocket !== undefined) this.post({ say: "closed", socket: waitingSocket, code, reason });
  }

  /** Sends a message to the page. */
  send(message: Wire): void {
    const { currentSocket } = this;
    if (currentSocket !== undefined) this.post({ say: "frame", socket: currentSocket, frame: this.#codec.encode(message) });
  }

  /**
   * Sends a message of a channel, if the page is subscribed. Leaves out what the page published without an
   * echo, as `user`.
   */
  deliver(channel: string, message: Wire, user?: string): void {
    const flow = this.#flows.get(channel);
    if (!flow) return;
    if (flow.suppressed.length > 0 && message.type === "message" && message["user"] === user) {
      const index = flow.suppressed.indexOf(JSON.stringify(message["content"]));
      if (index >= 0) return void flow.suppressed.splice(index, 1);
    }
    if (flow.heldPresence && /^(presence_|occupancy$)/.test(message.type)) flow.heldPresence.push(message);
    else if (flow.pauses > 0) flow.held.push(message);
    else this.send(message);
  }

  /**
   * Holds the presence messages of a channel, until the returned function is called with the list that
   * precedes them, if there is one.
   */
  holdPresence(channel: string): (list?: Wire) => void {
    const flow = this.#flows.get(channel);
    const held: Wire[] = [];
    if (flow) flow.heldPresence = held;
    return (list) => {
      if (!flow || flow.heldPresence !== held) return;
      flow.heldPresence = undefined;
      if (this.#flows.get(channel) !== flow) return;
      if (list) this.deliver(channel, list);
      for (const message of held) this.deliver(channel, message);
    };
  }

  /**
   * Adds a channel to which the server's application has subscribed the connection, and thereby every page.
   */
  addServed(channel: string): void {
    if (this.currentSocket !== undefined && !this.#flows.has(channel)) this.#flows.set(channel, { pauses: 0, held: [], suppressed: [] });
  }

  /** Removes a channel whose subscription the server has ended. */
  removeEnded(channel: string, message: Wire): void {
    // A page that still catches up learns it from the answer.
    this.#pendingSubscribes.delete(channel);
    this.#shares.delete(channel);
    this.#formerShares.delete(channel);
    if (this.#flows.delete(channel)) this.send(message);
  }

  /** Starts a subscribe request. {@link currentSubscribe} returns its symbol until another request starts. */
  startSubscribe(channel: string): symbol {
    const request = Symbol(channel);
    this.#pendingSubscribes.set(channel, request);
    return request;
  }

  currentSubscribe(channel: string): symbol | undefined {
    return this.#pendingSubscribes.get(channel);
  }

  /** Keeps a share, and holds the channel's messages until the missed ones are sent. */
  keepShare(channel: string, share: Subscribed): { release(missed: readonly Wire[]): void } {
    void this.#formerShares.get(channel)?.unsubscribe();
    this.#formerShares.delete(channel);
    void this.#shares.get(channel)?.unsubscribe();
    this.#shares.set(channel, share);
    const flow: Flow = { pauses: 1, held: [], suppressed: [] };
    this.#flows.set(channel, flow);
    return {
      release: (missed) => {
        if (this.#flows.get(channel) !== flow) return;
        for (const message of missed) this.send(message);
        this.#resumeFlow(flow);
      },
    };
  }

  /** Holds a channel's messages until it is known which of them the page itself has published. */
  pauseChannel(channel: string): { resume(isOwn: (message: Wire) => boolean): void } | undefined {
    const flow = this.#flows.get(channel);
    if (!flow) return undefined;
    flow.pauses++;
    let isPaused = true;
    return {
      resume: (isOwn) => {
        if (!isPaused) return;
        isPaused = false;
        const index = flow.held.findIndex(isOwn);
        if (index >= 0) flow.held.splice(index, 1);
        if (this.#flows.get(channel) === flow) this.#resumeFlow(flow);
      },
    };
  }

  /** Leaves out the next message of the page's user with this content. The returned function cancels that. */
  suppressEcho(channel: string, content: unknown): () => void {
    const suppressed = this.#flows.get(channel)?.suppressed;
    const text = JSON.stringify(content);
    suppressed?.push(text);
    return () => {
      const index = suppressed?.indexOf(text) ?? -1;
      if (index >= 0) suppressed?.splice(index, 1);
    };
  }

  /** Ends the share of one channel, or all shares. */
  async endShares(channel?: string): Promise<void> {
    const names = channel === undefined ? this.channels : [channel];
    const shares = names.flatMap((name) => [this.#shares.get(name), this.#formerShares.get(name)]);
    for (const name of names) {
      this.#pendingSubscribes.delete(name);
      this.#shares.delete(name);
      this.#formerShares.delete(name);
      this.#flows.delete(name);
    }
    if (channel === undefined) {
      this.#pendingSubscribes.clear();
      this.#cancelTimeout();
      this.#refuseClientRequests();
      this.#tokenRequest?.resolve(NO_ANSWER);
    }
    await Promise.all(shares.map((share) => share?.unsubscribe()));
  }

  /** Asks the page for credentials. */
  requestToken(isRefresh: boolean): Promise<TokenAnswer> {
    // A frozen page does not answer, so only the latest request is open.
    this.#tokenRequest?.resolve(NO_ANSWER);
    // The user who signs in before the page connects again is not known yet.
    if (!this.isWanted) return Promise.resolve(NO_ANSWER);
    const id = ++this.#requestCount;
    this.post({ say: "token?", id, isRefresh });
    return new Promise((resolve) => (this.#tokenRequest = { id, resolve }));
  }

  /**
   * Forgets what the page has shown, and its pending request for credentials, because another user may have
   * signed in.
   */
  forgetCredentials(): void {
    this.verifiedUser = undefined;
    this.#tokenRequest?.resolve(NO_ANSWER);
  }

  receiveToken(id: number, answer: TokenAnswer): void {
    if (this.#tokenRequest?.id === id) this.#tokenRequest.resolve(answer);
    // The answer was slow, but the page is not frozen.
    else if (answer.token !== undefined) this.timesAsked = 0;
  }

  /** Passes a client request to the page. */
  sendClientRequest(event: string, data: unknown): Promise<unknown> {
    if (this.currentSocket === undefined) return Promise.reject(new Error("nobody answers this"));
    const id = `worker-${++this.#requestCount}`;
    return new Promise((resolve, reject) => {
      this.#clientRequests.set(id, { resolve, reject });
      this.send({ type: "request", id, event, data });
    });
  }

  /** Whether the message answers a client request. */
  takeAnswer({ type, id, ...fields }: Wire): boolean {
    if (type !== "ack" && type !== "error") return false;
    const request = this.#clientRequests.get(String(id));
    this.#clientRequests.delete(String(id));
    if (type === "ack") request?.resolve(fields["data"]);
    else request?.reject(new Error(String(fields["message"])));
    return true;
  }

  #resumeFlow(flow: Flow): void {
    if (--flow.pauses > 0) return;
    for (const message of flow.held.splice(0)) this.send(message);
  }

  #refuseClientRequests(): void {
    for (const { reject } of this.#clientRequests.values()) reject(new Error("nobody answers this"));
    this.#clientRequests.clear();
  }
}

const NO_ANSWER: TokenAnswer = { token: undefined, hasFailed: true };
/** The close code after which a page reconnects. */
export const LOST = 1006;
/** Milliseconds that a page has to subscribe again after a reconnect. */
const RESUBSCRIBE_TIMEOUT = 10_000;
