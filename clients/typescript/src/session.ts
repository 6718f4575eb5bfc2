// What survives a socket: the channels with their positions, the token that resumes, and what a reconnect does with
// them. Messages of channels are given out here.

import type { Gap } from "./channel.js";
import { MESSAGE_TOO_BIG } from "./close-codes.js";
import { size } from "./codec.js";
import { HauynaError } from "./error.js";
import type { ChannelHost } from "./host.js";
import type { Outbox } from "./outbox.js";
import { Gate } from "./restoring.js";
import { type Position, type ServerMessage, type SessionMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Subscription } from "./subscription.js";

/** What a session needs of its client. */
export interface SessionHost extends Pick<ChannelHost, "logger" | "environment" | "key"> {
  send(frame: string | Uint8Array): void;
  gap(gap: Gap): void;
}

/** The session of one client, over all of its sockets. */
export class Session {
  readonly #host: SessionHost;
  readonly #outbox: Outbox;
  /** The channels with a subscription, a position or a listener. */
  readonly #channels = new Map<string, Subscription>();
  /** Those that only the application holds, if anybody. */
  readonly #idle = new Map<string, Pick<WeakRef<Subscription>, "deref">>();
  readonly #gone = globalThis.FinalizationRegistry && new FinalizationRegistry((name: string) => this.#forget(name));
  /** What every channel has of it. */
  readonly #channelHost: ChannelHost;
  #token: string | undefined;
  /** From where the server replays where it resumes the session: the positions that were said with the token. */
  #named: ReadonlyMap<string, Position | undefined> = new Map();
  /** The size of the `resume` on this socket; the server may have answered before it has read it. */
  #resumeSize = 0;
  /** Changes with the socket. */
  #turn = 0;
  /** Ends the waiting for what is restored on this connection. */
  #interrupt = () => {};

  constructor(host: SessionHost, outbox: Outbox) {
    this.#host = host;
    this.#outbox = outbox;
    this.#channelHost = {
      ...host,
      outbox,
      gate: new Gate(host.environment),
      reads: new Gate(host.environment),
      keep: (channel, isKept) => this.#keep(channel, isKept),
    };
  }

  channel(name: string): Subscription {
    let found = this.#channels.get(name) ?? this.#idle.get(name)?.deref();
    if (!found) {
      found = new Subscription(name, this.#channelHost);
      this.#keep(found, false);
      this.#gone?.register(found, name);
    }
    return found;
  }

  /** What the first message on the next socket says, where there is a session to resume. */
  resume(): { token: string; message: ServerMessage } | undefined {
    if (this.#token === undefined) return undefined;
    const positions = [...this.#channels.values()]
      .filter(({ position, state }) => position && state.name !== "unsubscribed")
      .map(({ name, position }) => [name, position] as const);
    this.#named = new Map(positions);
    return { token: this.#token, message: { type: "resume", positions: Object.fromEntries(positions) } };
  }

  /** The next socket begins again: each subscription recovers by itself. */
  forget(): void {
    this.#token = undefined;
  }

  /** A socket has this session. `resume` is its first message, if it had one. */
  take(session: SessionMessage, resume: string | Uint8Array = ""): void {
    const turn = ++this.#turn;
    this.#token = session.resume?.token;
    this.#resumeSize = size(resume);
    this.#outbox.begin(this.#host.send, this.#resumeSize);
    // A session that begins again knows nothing of what was sent before, but for what the recovery of a channel proves.
    if (session.resumed !== true) {
      this.#outbox.forget((name) => name !== undefined && this.#channels.get(name)?.isWanted === true);
      for (const channel of this.#channels.values()) channel.isUnjudged = true;
    }
    for (const channel of this.#channels.values()) channel.isThere = false;
    const there = new Set<string>();
    for (const entry of session.subscriptions ?? []) {
      there.add(entry.channel);
      this.#established(entry, this.#named.get(entry.channel));
      // Who was told may have ended this connection.
      if (turn !== this.#turn) return;
    }
    const restored: Promise<void>[] = [];
    for (const channel of this.#channels.values()) {
      if (there.has(channel.name)) continue;
      channel.isGivenUp = false;
      if (channel.isWanted) restored.push(channel.restore());
      // The application had made it, and has not made it again.
      else channel.end();
      if (turn !== this.#turn) return;
    }
    if (session.resumed === true || restored.length === 0) return this.#outbox.open();
    const goOn = () => {
      if (turn !== this.#turn) return;
      this.#interrupt();
      this.#outbox.open();
    };
    this.#interrupt = this.#host.environment.after(RESTORE_TIMEOUT, goOn);
    void Promise.all(restored).then(goOn);
  }

  /** Somebody else has signed in: what was asked up to the request of this number is not done as theirs, nor shown as theirs what it has set. */
  leave(last: number): void {
    this.#outbox.leave(last);
    for (const { options } of this.#channels.values()) options.metadata = options.given;
  }

  /** The socket is gone, with this close code. */
  lost(code?: number): void {
    // A `resume` that was too large on the way would end the next connection, too.
    if (code === MESSAGE_TOO_BIG && this.#outbox.giveUpLargest() === this.#resumeSize && this.#resumeSize > 0) this.forget();
    this.#turn++;
    this.#interrupt();
    this.#outbox.lost();
    this.#channelHost.gate.reset();
    this.#channelHost.reads.reset();
    for (const channel of this.#channels.values()) channel.lost();
  }

  /** No socket will come, unless somebody asks for one. */
  close(closed: HauynaError): void {
    this.#token = undefined;
    this.#outbox.close(closed);
    for (const channel of this.#channels.values()) channel.refuse(closed, this.#outbox.isQuiet);
  }

  /** Takes a message about a channel. False if it is not about one that anybody knows. */
  receive(message: ServerMessage): boolean {
    const name = message["channel"];
    if (typeof name !== "string") return false;
    const type = typeOf(message);
    const channel = this.#channels.get(name);
    if (type === "subscribed") {
      const entry = message as unknown as SubscriptionEntry;
      // Of an earlier subscription, that goes on or is about to end, it says nothing of the one that is being asked for.
      const isEarlier = channel && (entry.recovered != null || channel.endings > 0);
      if (!isEarlier || channel.state.name !== "subscribing") this.#established(entry);
      else channel.isThere = true;
      return true;
    }
    if (type !== "unsubscribed") channel?.receive(message);
    // What is being asked for is decided by the answer.
    else if (channel?.state.name === "subscribed") channel.end(new HauynaError("refused", "the server ended the subscription"));
    return channel !== undefined;
  }

  #keep(channel: Subscription, isKept: boolean): void {
    const { name } = channel;
    if (isKept) {
      this.#channels.set(name, channel);
      this.#idle.delete(name);
    } else if (this.#idle.get(name)?.deref() !== channel) {
      this.#channels.delete(name);
      this.#idle.set(name, globalThis.WeakRef ? new WeakRef(channel) : { deref: () => channel });
    }
  }

  /** A channel has left the memory; another one may have its name by now. */
  #forget(name: string): void {
    if (!this.#idle.get(name)?.deref()) this.#idle.delete(name);
  }

  #established(entry: SubscriptionEntry, named?: Position): void {
    const channel = this.channel(entry.channel);
    channel.isThere = true;
    if (channel.isGivenUp) void channel.giveUp();
    else channel.established(entry, named);
  }
}

/** Milliseconds for the subscriptions to be restored, before other requests go on without them. */
const RESTORE_TIMEOUT = 10_000;
