// The subscription behind a channel, with its position. It decides for each message whether it is new, and
// after each reconnect and each gap whether messages are missing, which it always reports.

import { delayAfter } from "./backoff.js";
import type { ChannelState, Gap, Published, PublishOptions, SubscribeOptions, Subscribed } from "./channel.js";
import { EventSender } from "./client-events.js";
import { HauynaError, ServerError, quiet } from "./error.js";
import { type Dropped, type Filling, type HistoryAnswer, KEPT, TOKEN, UNKNOWN, defined, distance, isNumber, positionOf } from "./filling.js";
import type { ChannelHost } from "./host.js";
import { on } from "./listeners.js";
import { Listening } from "./listening.js";
import { Roster } from "./presence.js";
import { type Position, type RecoveryReason, type ServerMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Shares } from "./shares.js";

/** The state of one channel in a client. */
export class Subscription extends Listening {
  /** Prevents Vue from making a reactive proxy of this object. */
  readonly __v_skip = true;
  readonly presence: Roster;
  state: ChannelState = { name: "unsubscribed" };
  position: Position | undefined;
  /** Whether the application wants the subscription, with or without a connection. */
  isWanted = false;
  /**
   * Whether the application has ended the subscription and the server may not know it yet. `#isLeftBehind`:
   * the server refused to end it for now, and it may exist although it was ended.
   */
  isGivenUp = false;
  #isLeftBehind = false;
  /**
   * Whether the server may have the subscription, as far as this client has asked or heard. Otherwise it need
   * not be ended.
   */
  isThere = false;
  /**
   * How many unsubscribe requests wait for their answer. Until then, the server's messages concern the
   * subscription that ends.
   */
  endings = 0;
  /**
   * Whether a new session has begun, and it is unknown if the server remembers earlier publications. It
   * survives a lost connection.
   */
  isUnjudged = false;
  /**
   * The options of the subscription, a new object for each. A presence update replaces `metadata`; `given` is
   * the metadata of `subscribe`.
   */
  options: { -readonly [Name in keyof SubscribeOptions]: SubscribeOptions[Name] } & { given?: SubscribeOptions["metadata"] } = {};
  /** Whether the previous connection had the subscription. */
  #wasLive = false;
  readonly #shares = new Shares(() => this.unsubscribe());
  readonly #events: EventSender;
  /** The messages that arrive while dropped ones are loaded from the history. */
  #filling: Filling | undefined;
  /** The offset of the last message that arrived. Within one epoch, the next one is higher. */
  #arrived = 0;
  /**
   * Increases with each connection and each change of the subscription. Answers of an earlier generation are
   * ignored.
   */
  #turn = 0;
  #cancel = () => {};

  constructor(name: string, host: ChannelHost) {
    super(name, host, () => this.#review());
    this.presence = new Roster(this.listeners, {
      ask: (after) => host.reads.insist(() => host.outbox.urgent({ message: { type: "presence", channel: name, after } })),
      update: (metadata) => {
        let options = this.options;
        const take = () => void (options.metadata = metadata);
        // The outbox calls this right before it sends the request, so it concerns the subscription of that
        // moment.
        const isHeld = () => (options = this.options) && this.state.name === "subscribing";
        return host.outbox.request({ message: { type: "update_presence", channel: name, metadata }, retry: "always", take, isHeld }) as Promise<void>;
      },
    });
    this.#events = new EventSender(host.environment, (event, data) => {
      try {
        if (this.state.name === "subscribed") host.outbox.tell({ type: "client_event", channel: name, event, data });
      } catch (error) {
        host.logger.warn("not sent", { event, error });
      }
    });
  }

  subscribe({ signal, ...options }: SubscribeOptions = {}): Promise<Subscribed> {
    if (this.host.outbox.closed) return Promise.reject(this.host.outbox.closed);
    if (signal?.aborted) return quiet(Promise.reject(signal.reason));
    // The options of other shares are kept, unless this call states them differently.
    Object.assign(this.options, defined({ ...options, given: options.metadata }));
    this.isWanted = true;
    this.isGivenUp = false;
    const share = this.#shares.add(signal);
    this.#review();
    if (this.state.name === "subscribed") this.#shares.settle(this.position);
    if (this.state.name === "unsubscribed") {
      this.position = options.since ?? this.position;
      void this.restore();
    }
    return share;
  }

  async unsubscribe(): Promise<void> {
    const wasAsked = this.state.name !== "unsubscribed" || this.isGivenUp;
    this.isGivenUp ||= wasAsked;
    this.position = undefined;
    this.end();
    this.#wasLive = false;
    if (wasAsked) await this.giveUp();
  }

  publish(content: unknown, { key, echo, ...options }: PublishOptions = {}): Promise<Published> {
    const message = { type: "channel_message", channel: this.name, content, key: key ?? this.host.key(), ...(echo === false && { echo }) };
    const take = (data: unknown) => {
      const at = positionOf(data);
      // A publication without an echo counts as received. If it is the next one, no message lies between it
      // and the position.
      const isNext = echo === false && !this.#filling && distance(this.position, at) === 1;
      if (at && isNext) this.#arrived = (this.position = at).offset;
      return at;
    };
    return this.ask({ ...options, message, retry: "keyed", channel: this.name, take }) as Promise<Published>;
  }

  send(type: string, data?: unknown): void {
    if (this.state.name === "subscribed") this.#events.send(type, data);
  }

  /** Subscribes on the current connection. Resolves when the server has decided. */
  async restore(): Promise<void> {
    const turn = this.#next();
    this.#become({ name: "subscribing" });
    if (turn !== this.#turn || !this.host.outbox.isConnected) return; // the next connection subscribes
    const { metadata, getToken } = this.options;
    if (getToken) {
      // A token source that does not answer is called again.
      this.#after(TOKEN, () => this.restore());
      const offs = [this.#cancel, this.host.outbox.early()];
      this.#cancel = () => offs.forEach((off) => off());
    }
    try {
      // This waits a moment even without a token: a listener of the new state may end the subscription first.
      const token = await getToken?.();
      if (turn !== this.#turn) return;
      this.#cancel();
      const recover = this.position;
      const message = { type: "subscribe_channel", channel: this.name, metadata, recover, token };
      // Messages may follow directly after the answer.
      const take = (entry: unknown) => {
        if (turn === this.#turn) return this.established(entry as SubscriptionEntry, recover);
        // The server's application has ended another subscription meanwhile, and this client does not know of
        // this one.
        if (this.state.name !== "unsubscribed" || this.isGivenUp) return;
        this.isGivenUp = this.isThere = true;
        void this.giveUp();
      };
      await this.host.gate.pass(async () => turn === this.#turn && (this.isThere = true) && this.host.outbox.urgent({ message, timeout: Infinity, take }));
    } catch (error) {
      const wasTooLarge = turn + 1 === this.#turn && this.state.name === "subscribing" && (error as Partial<ServerError>).type === "payload_too_large";
      // A message that is too large is not sent again, because it would end the next connection as well.
      if (turn === this.#turn || wasTooLarge) this.#failed(error);
    }
  }

  /**
   * Starts the subscription that the server has confirmed on this connection. The server may replay the
   * messages after `named`, or continue the stream under another epoch.
   */
  established(entry: SubscriptionEntry, named?: Position): void {
    const before = this.position;
    const now = positionOf(entry);
    const { recovered } = entry;
    const isLive = this.state.name === "subscribed";
    const isSameStream = before !== undefined && before.epoch === now?.epoch;
    const isAsked = recovered != null;
    const wasKnown = this.#wasLive || before !== undefined || (isLive && isAsked);
    // The client has these messages already, or is loading them.
    if (isLive && isSameStream && (before.offset >= now.offset || (recovered && this.#filling))) return;
    this.#judge(isSameStream, before !== undefined || (now !== undefined && (isLive || this.#wasLive)));
    // Messages that were missed before cannot be loaded any more.
    const earlier = this.#turn;
    while (isLive && recovered && this.#filling) {
      this.#filled("epoch_changed");
      if (earlier !== this.#turn) return; // a listener may have ended this connection
    }
    const turn = this.#reset();
    this.#wasLive = false;
    const isReplayed = recovered && !isLive && before && now;
    // The subscription may have been ended and requested again meanwhile, from an older position or from one
    // of a third epoch.
    const isOther = isReplayed && named && ![named.epoch, now.epoch].includes(before.epoch);
    // A replay continues after the client's offset, under any epoch.
    if (isReplayed) this.position = { ...(isOther ? named : before), epoch: now.epoch };
    else if (isAsked || !isSameStream) this.position = now;
    const isMissing = isReplayed && !isOther && before.offset < (named ?? now).offset;
    this.#arrived = (recovered && !isLive ? named : now)?.offset ?? 0;
    this.#events.rates = entry.client_events ?? {};
    this.#become({ name: "subscribed", ...(isReplayed && !isOther && { recovered: { from: before, to: now } }) });
    if (turn !== this.#turn) return; // the share may belong to another subscription now
    this.#shares.settle(this.position);
    // The server does not recover the subscriptions that its application creates, nor the messages before a
    // replay that an earlier request caused.
    if (isMissing || (wasKnown && !isAsked && isSameStream)) return void this.#fill();
    if (!wasKnown || (recovered && !isOther)) return;
    const reason = entry.reason ?? (now ? (before ? "epoch_changed" : "unknown_position") : "not_recoverable");
    this.#gap(reason, before, isOther ? this.position : now);
  }

  /** Handles the loss of the connection. */
  lost(): void {
    this.#reset();
    if (this.state.name === "subscribed") this.#wasLive = true;
    if (this.state.name !== "unsubscribed") this.#become({ name: "subscribing" });
  }

  /** Ends the subscription with all its shares. */
  end(error?: HauynaError): void {
    this.#reset();
    this.presence.clear();
    this.isWanted = false;
    this.options = {};
    this.#judge(false);
    // The shares end first, because a listener of the new state may subscribe again.
    this.#shares.clear(error ?? new HauynaError("unsubscribed", "unsubscribed"));
    this.#become({ name: "unsubscribed", ...(error && { error }) });
    this.#review();
  }

  /** Handles that the client is closed, by the application itself if `isQuiet`. Unconfirmed shares fail. */
  refuse(error: HauynaError, isQuiet: boolean): void {
    this.listeners.emit("closed", isQuiet ? {} : { error });
    if (this.#shares.refuse(error)) this.end(error);
  }

  /** Sends the unsubscribe request. Without a connection nothing is sent. */
  async giveUp(): Promise<void> {
    this.endings++;
    try {
      await this.host.gate.pass(async () => {
        if (!this.isThere) return;
        this.isThere = false;
        await this.host.outbox.urgent({ message: { type: "unsubscribe_channel", channel: this.name } });
      });
    } catch (error) {
      if (error instanceof ServerError && error.temporary) this.#isLeftBehind = true;
      this.isThere ||= !(error instanceof ServerError) || error.temporary;
      // Without an answer, the next connection shows what the server has. If another unsubscribe request is
      // pending, its answer decides.
      if (!this.isGivenUp || this.endings > 1 || !(error instanceof ServerError)) return;
      if (error.temporary) return this.#after(delayAfter(error), () => this.giveUp());
    } finally {
      this.endings--;
    }
    // The server refused an earlier unsubscribe request for now.
    if (this.isGivenUp && !this.endings && this.#isLeftBehind && this.isThere) return this.giveUp();
    // From now on, the server's application may subscribe this client again.
    if (this.isGivenUp && !this.endings) this.isGivenUp = this.#isLeftBehind = false;
    this.#review();
  }

  receive(message: ServerMessage): void {
    // Before the answer to a subscribe request, all messages belong to an earlier subscription.
    if (this.isGivenUp || this.state.name === "subscribing") return;
    const type = typeOf(message);
    if (type === "client_event") return this.listeners.emit(`event ${message["event"]}`, { ...message, type: message["event"] });
    if (type && type !== "gap") return this.presence.receive(message);
    if (type) void this.presence.refresh();
    else if (this.position && isNumber(message["offset"])) {
      const { offset } = message;
      // The stream may have changed its epoch without notice, which the history reveals.
      if (offset <= this.#arrived) {
        if (!this.#filling) void this.#fill();
        (this.#filling as unknown as Filling).wentBack ??= message;
      }
      this.#arrived = offset;
    }
    this.#take(message);
  }

  #take(message: ServerMessage): void {
    if (this.#filling) this.#keep(message, this.#filling);
    else if (typeOf(message)) this.#dropped(message as unknown as Dropped);
    else this.#deliver(message);
  }

  #deliver(message: ServerMessage): void {
    const { offset } = message;
    if (isNumber(offset) && this.position) {
      if (offset <= this.position.offset) return;
      this.position = { epoch: this.position.epoch, offset };
    }
    this.listeners.emit(on(message.type), message);
  }

  #keep(message: ServerMessage, { kept }: Filling): void {
    if (kept.push(message) < KEPT) return;
    this.#next(); // the answer comes too late
    this.#filled("too_many");
  }

  /** Updates whether the session keeps this channel in memory. */
  #review(): void {
    const isIdle = this.state.name === "unsubscribed" && !this.isWanted && !this.isGivenUp;
    this.host.keep(this, !isIdle || !this.listeners.isEmpty);
  }

  /**
   * Forgets the keys of earlier publications if the server may have forgotten them, so that they are not sent
   * again.
   */
  #judge(isSameStream: boolean, hasTurned = false): void {
    if (!isSameStream && (hasTurned || this.isUnjudged)) this.host.outbox.forget((other) => other !== this.name);
    this.isUnjudged = false;
  }

  /** Cancels what is under way, and starts a new generation. */
  #next(): number {
    this.#cancel();
    return ++this.#turn;
  }

  #reset(): number {
    this.#events.clear();
    this.#isLeftBehind = false;
    this.#filling = undefined;
    return this.#next();
  }

  #become(state: ChannelState): void {
    if (state.name === this.state.name && !state.error) return;
    this.state = state;
    this.#review();
    this.listeners.emit("state", state, () => state === this.state);
    this.host.outbox.flush();
  }

  #failed(error: unknown): void {
    if (error instanceof ServerError) {
      // The server's application was faster, or an earlier subscription still exists. Its position is
      // unknown.
      const isThere = error.type === "already_subscribed";
      if (isThere && !this.#isLeftBehind) return this.established({ channel: this.name, recoverable: false });
      if (isThere) void this.giveUp();
      else if (!error.temporary) return this.end(error);
    } else if (error instanceof HauynaError && error.kind === "invalid") return this.end(error);
    else this.host.logger.warn("no token", { channel: this.name, error });
    this.#after(delayAfter(error), () => this.restore());
  }

  #after(delay: number, run: () => Promise<void>): void {
    this.#cancel();
    this.#cancel = this.environment.after(delay, () => void run());
  }

  #dropped({ epoch, offset, missed }: Dropped): void {
    if (epoch == null) return;
    if (!this.position && epoch === UNKNOWN) return this.#gap("not_recoverable", undefined, undefined, missed);
    // Loading starts at the client's position, never further on. The history reports if the epoch has
    // changed.
    this.position ??= { epoch, offset };
    void this.#fill();
  }

  /** Loads everything after the position from the history, before anything else is delivered. */
  async #fill(): Promise<void> {
    const turn = this.#turn;
    const filling: Filling = (this.#filling = { kept: [] });
    try {
      for (let at = this.position; at; at = this.position) {
        const message = { type: "history", channel: this.name, since: at };
        const page = await this.host.reads.insist(async () => turn === this.#turn && this.host.outbox.urgent({ message }));
        if (turn !== this.#turn) return;
        const { epoch, offset: end, messages } = page as HistoryAnswer;
        if (!(end >= at.offset)) return this.#filled("epoch_changed");
        // The stream has the same numbering, under any epoch.
        filling.wentBack = undefined;
        this.position = { ...at, epoch };
        this.#judge(epoch === at.epoch, true);
        for (const message of messages) {
          this.#deliver(message);
          if (turn !== this.#turn) return;
        }
        const { offset } = this.position as Position;
        if (offset >= end) break;
        if (offset > at.offset) continue;
        this.position = at;
        return this.#filled(epoch === at.epoch ? "too_old" : "epoch_changed");
      }
      this.#filled();
    } catch (error) {
      if (turn !== this.#turn) return;
      this.host.logger.warn("a gap was not closed", { channel: this.name, error });
      this.#filled(((error as Partial<ServerError>).details?.["reason"] as RecoveryReason | undefined) ?? "not_recoverable");
    }
  }

  /**
   * Delivers the messages that were held. With a `reason`, the history could not close the gap. If the epoch
   * has changed, offsets have no meaning: all messages are delivered until the server names a position.
   */
  #filled(reason?: Gap["reason"]): void {
    if (!this.#filling) return;
    const { kept, wentBack } = this.#filling;
    this.#filling = undefined;
    const turn = this.#turn;
    const isLost = reason === "epoch_changed" || (reason && wentBack);
    if (isLost) this.#judge(false, true);
    if (reason) {
      const before = this.position;
      // The history may have contained some of them.
      const next = before && kept.find(({ offset }) => isNumber(offset) && offset > before.offset);
      const to = next && !isLost ? { ...before, offset: (next["offset"] as number) - 1 } : undefined;
      this.position = to ?? before;
      this.#gap(reason, before, to);
    }
    // If another gap is among them, the rest is held again.
    for (const message of kept) {
      if (turn !== this.#turn) return;
      if (message === wentBack) {
        if (this.#filling) (this.#filling as Filling).wentBack = message;
        else this.position = undefined;
      }
      this.#take(message);
    }
    if (isLost && turn === this.#turn && !this.#filling) this.position = undefined;
  }

  #gap(reason: Gap["reason"], from: Position | undefined, to: Position | undefined, missed?: number): void {
    const gap: Gap = { channel: this.name, reason, from, to, missed: missed ?? distance(from, to) };
    this.listeners.emit("gap", gap);
    this.host.gap(gap);
  }
}
