// What survives a lost connection: the channels with their positions, and the token that resumes the session.
// It restores the channels after a reconnect, and passes messages to their channels.

import type { Gap } from "./channel.js";
import { MESSAGE_TOO_BIG } from "./close-codes.js";
import { size } from "./codec.js";
import type { HauynaError } from "./error.js";
import type { ChannelHost } from "./channel-host.js";
import type { Outbox } from "./outbox.js";
import { RequestLimiter } from "./request-limiter.js";
import { type Position, type ServerMessage, type SessionMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Subscription } from "./subscription.js";

/** The parts of the client that a session uses. */
export interface SessionHost extends Pick<ChannelHost, "logger" | "environment" | "key"> {
  send(frame: string | Uint8Array): void;
  gap(gap: Gap): void;
}

/** The session of one client, across its connections. */
export class Session {
  readonly #host: SessionHost;
  readonly #outbox: Outbox;
  /** The channels with a subscription, a position or a listener. */
  readonly #channels = new Map<string, Subscription>();
  /** The channels to which only the application may hold a reference. */
  readonly #released = new Map<string, Pick<WeakRef<Subscription>, "deref">>();
  readonly #registry = globalThis.FinalizationRegistry && new FinalizationRegistry((name: string) => this.#forgetCollected(name));
  /** The interface that all channels share. */
  readonly #channelHost: ChannelHost;
  #token: string | undefined;
  /**
   * The positions that the client sent with the token, from which the server replays when it resumes the
   * session.
   */
  #sentPositions: ReadonlyMap<string, Position | undefined> = new Map();
  /** The size of the `resume` on this connection. The server may have answered before it has read it. */
  #resumeSize = 0;
  /** Increases with each connection. Callbacks of an earlier generation do nothing. */
  #generation = 0;
  /** Cancels the timeout for the subscriptions that this connection restores. */
  #cancelTimeout = () => {};

  constructor(host: SessionHost, outbox: Outbox) {
    this.#host = host;
    this.#outbox = outbox;
    this.#channelHost = {
      ...host,
      outbox,
      limiter: new RequestLimiter(host.environment),
      reads: new RequestLimiter(host.environment),
      keep: (channel, isKept) => this.#setKept(channel, isKept),
    };
  }

  channel(name: string): Subscription {
    let subscription = this.#channels.get(name) ?? this.#released.get(name)?.deref();
    if (!subscription) {
      subscription = new Subscription(name, this.#channelHost);
      this.#setKept(subscription, false);
      this.#registry?.register(subscription, name);
    }
    return subscription;
  }

  /** Returns the token and the first message of the next connection, if there is a session to resume. */
  resume(): { token: string; message: ServerMessage } | undefined {
    if (this.#token === undefined) return undefined;
    const positions = [...this.#channels.values()]
      .filter(({ position, state }) => position && state.name !== "unsubscribed")
      .map(({ name, position }) => [name, position] as const);
    this.#sentPositions = new Map(positions);
    return { token: this.#token, message: { type: "resume", positions: Object.fromEntries(positions) } };
  }

  /**
   * Forgets the token: the next connection starts a new session, and each subscription recovers separately.
   */
  forgetToken(): void {
    this.#token = undefined;
  }

  /** Starts the session of a new connection. `resume` is the first message on it, if there was one. */
  start(session: SessionMessage, resume: string | Uint8Array = ""): void {
    const generation = ++this.#generation;
    this.#token = session.resume?.token;
    this.#resumeSize = size(resume);
    this.#outbox.begin(this.#host.send, this.#resumeSize);
    // A new session knows nothing about earlier publications. Only the recovery of a channel can prove
    // otherwise.
    if (session.resumed !== true) {
      this.#outbox.forget((name) => name !== undefined && this.#channels.get(name)?.isWanted === true);
      for (const channel of this.#channels.values()) channel.isUnjudged = true;
    }
    for (const channel of this.#channels.values()) channel.exists = false;
    const confirmed = new Set<string>();
    for (const entry of session.subscriptions ?? []) {
      confirmed.add(entry.channel);
      this.#startSubscription(entry, this.#sentPositions.get(entry.channel));
      // A listener may have ended this connection.
      if (generation !== this.#generation) return;
    }
    const restored: Promise<void>[] = [];
    for (const channel of this.#channels.values()) {
      if (confirmed.has(channel.name)) continue;
      channel.isGivenUp = false;
      if (channel.isWanted) restored.push(channel.restore());
      // The server's application had created the subscription, and may create it again.
      else channel.awaitRenewal(session.failed?.some((failed) => failed.channel === channel.name) ? 0 : RESTORE_TIMEOUT);
      if (generation !== this.#generation) return;
    }
    if (session.resumed === true || restored.length === 0) return this.#outbox.open();
    const sendAll = () => {
      if (generation !== this.#generation) return;
      this.#cancelTimeout();
      this.#outbox.open();
    };
    this.#cancelTimeout = this.#host.environment.after(RESTORE_TIMEOUT, sendAll);
    void Promise.all(restored).then(sendAll);
  }

  /**
   * Handles that another user has signed in: requests up to this number fail, and metadata that they have set
   * is reset.
   */
  leave(last: number): void {
    this.#outbox.failUpTo(last);
    for (const { options } of this.#channels.values()) options.metadata = options.given;
  }

  /** Handles the loss of the connection, with its close code. */
  lost(code?: number): void {
    // A `resume` that is too large for an intermediary would also end the next connection.
    if (code === MESSAGE_TOO_BIG && this.#outbox.failLargest() === this.#resumeSize && this.#resumeSize > 0) this.forgetToken();
    this.#generation++;
    this.#cancelTimeout();
    this.#outbox.lost();
    this.#channelHost.limiter.reset();
    this.#channelHost.reads.reset();
    for (const channel of this.#channels.values()) channel.lost();
  }

  /** Handles that the client is closed, and does not connect until the application asks for it. */
  close(closed: HauynaError): void {
    this.#token = undefined;
    this.#outbox.close(closed);
    for (const channel of this.#channels.values()) channel.refuse(closed, this.#outbox.isQuiet);
  }

  /** Handles a message about a channel. Returns false if the channel is unknown. */
  receive(message: ServerMessage): boolean {
    const name = message["channel"];
    if (typeof name !== "string") return false;
    const type = typeOf(message);
    const channel = this.#channels.get(name);
    if (type === "subscribed") {
      const entry = message as unknown as SubscriptionEntry;
      // A message about an earlier subscription, which continues or is about to end, does not answer the
      // pending request.
      const isEarlier = channel && (entry.recovered != null || channel.endings > 0);
      if (!isEarlier || channel.state.name !== "subscribing") this.#startSubscription(entry);
      else channel.exists = true;
      return true;
    }
    if (type !== "unsubscribed") channel?.receive(message);
    // A pending subscribe request is decided by its answer.
    else if (channel?.state.name === "subscribed") channel.endByServer();
    return channel !== undefined;
  }

  #setKept(channel: Subscription, isKept: boolean): void {
    const { name } = channel;
    if (isKept) {
      this.#channels.set(name, channel);
      this.#released.delete(name);
    } else if (this.#released.get(name)?.deref() !== channel) {
      this.#channels.delete(name);
      this.#released.set(name, globalThis.WeakRef ? new WeakRef(channel) : { deref: () => channel });
    }
  }

  /** Removes a channel that was garbage-collected, unless another channel has the name by now. */
  #forgetCollected(name: string): void {
    if (!this.#released.get(name)?.deref()) this.#released.delete(name);
  }

  #startSubscription(entry: SubscriptionEntry, named?: Position): void {
    const channel = this.channel(entry.channel);
    channel.exists = true;
    if (channel.isGivenUp) void channel.giveUp();
    else channel.start(entry, named);
  }
}

/**
 * Milliseconds that other requests wait for the subscriptions to be restored, and that the server's
 * application has to create its subscriptions again.
 */
const RESTORE_TIMEOUT = 10_000;
