// The subscription behind a channel, with its position: it decides of each message whether it is new, and after each
// reconnect and each gap whether anything is missing. Never silent about it.

import { Asking } from "./asking.js";
import { delayAfter } from "./backoff.js";
import type { ChannelState, Gap, Published, PublishOptions, SubscribeOptions, Subscribed } from "./channel.js";
import { EventSender } from "./client-events.js";
import { HauynaError, ServerError, quiet } from "./error.js";
import { type Dropped, type Filling, type HistoryAnswer, KEPT, TOKEN, UNKNOWN, defined, distance, isNumber, positionOf } from "./filling.js";
import type { ChannelHost } from "./host.js";
import { on } from "./listeners.js";
import { Roster } from "./presence.js";
import { type Position, type RecoveryReason, type ServerMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Shares } from "./shares.js";

/** What a client knows of one channel. */
export class Subscription extends Asking {
  /** As the client's. */
  readonly __v_skip = true;
  readonly presence: Roster;
  state: ChannelState = { name: "unsubscribed" };
  position: Position | undefined;
  /** The application wants it, whatever becomes of connections. */
  isWanted = false;
  /** The application has given it up, and the server may not know yet; or has refused to end it, and it is wanted again. */
  isGivenUp = false;
  #isLeftBehind = false;
  /** How often the server has been asked to end it, and has not answered: what it says of a subscription is about that one. */
  endings = 0;
  /** A session began again: whether it knows what was sent here before is not known yet. Outlives connections. */
  isUnjudged = false;
  /** Another object with each subscription. An update of the presence replaces its metadata; `given` is what was subscribed with. */
  options: { -readonly [Name in keyof SubscribeOptions]: SubscribeOptions[Name] } & { given?: SubscribeOptions["metadata"] } = {};
  /** There was a subscription on the connection before. */
  #wasLive = false;
  readonly #shares = new Shares(() => this.unsubscribe());
  readonly #events: EventSender;
  /** What comes while the history is asked for what was dropped. */
  #filling: Filling | undefined;
  /** The offset of what arrived last. In one epoch the next one is higher. */
  #arrived = 0;
  /** Changes with the connection and with what is wanted: answers to earlier questions mean nothing. */
  #turn = 0;
  #cancel = () => {};

  constructor(name: string, host: ChannelHost) {
    super(name, host, () => this.#review());
    this.presence = new Roster(this.listeners, {
      ask: (after) => host.reads.insist(() => host.outbox.urgent({ message: { type: "presence", channel: name, after } })),
      update: (metadata) => {
        let options = this.options;
        const take = () => void (options.metadata = metadata);
        // Asked right before it is sent: it is about the subscription of that time.
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
    // What somebody else has asked for is kept, but for what this one says otherwise.
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
      // What is not echoed is seen. Where it is the next one, nothing lies before it that was not.
      const isNext = echo === false && !this.#filling && distance(this.position, at) === 1;
      if (at && isNext) this.#arrived = (this.position = at).offset;
      return at;
    };
    return this.ask({ ...options, message, retry: "keyed", channel: this.name, take }) as Promise<Published>;
  }

  send(type: string, data?: unknown): void {
    if (this.state.name === "subscribed") this.#events.send(type, data);
  }

  /** Subscribes on the connection that is there. Resolves when that is decided, whichever way. */
  async restore(): Promise<void> {
    const turn = this.#next();
    this.#become({ name: "subscribing" });
    if (turn !== this.#turn || !this.host.outbox.isConnected) return; // the next connection asks
    const { metadata, getToken } = this.options;
    if (getToken) {
      // A source that does not answer is asked again.
      this.#after(TOKEN, () => this.restore());
      const offs = [this.#cancel, this.host.outbox.early()];
      this.#cancel = () => offs.forEach((off) => off());
    }
    try {
      // Also without a token a moment later: who is told of this and gives it up comes first.
      const token = await getToken?.();
      if (turn !== this.#turn) return;
      this.#cancel();
      const recover = this.position;
      const message = { type: "subscribe_channel", channel: this.name, metadata, recover, token };
      // Messages may be right behind the answer.
      const take = (entry: unknown) => {
        this.isThere = true;
        if (turn === this.#turn) return this.established(entry as SubscriptionEntry, recover);
        // The application's server has ended one of its own meanwhile, and this client knows of no other.
        if (this.state.name !== "unsubscribed" || this.isGivenUp) return;
        this.isGivenUp = true;
        void this.giveUp();
      };
      await this.askToBegin(() => turn === this.#turn, { message, timeout: Infinity, take });
    } catch (error) {
      const wasTooLarge = turn + 1 === this.#turn && this.state.name === "subscribing" && (error as Partial<ServerError>).type === "payload_too_large";
      if (turn === this.#turn || wasTooLarge) this.#failed(error); // sent again, it would end the next connection, too
    }
  }

  /** The server has this subscription on this connection, and may replay what came after `named`; or it goes on under another epoch. */
  established(entry: SubscriptionEntry, named?: Position): void {
    const before = this.position;
    const now = positionOf(entry);
    const { recovered } = entry;
    const isLive = this.state.name === "subscribed";
    const isSameStream = before !== undefined && before.epoch === now?.epoch;
    const isAsked = recovered != null;
    const wasKnown = this.#wasLive || before !== undefined || (isLive && isAsked);
    // What it has already, or what is being fetched.
    if (isLive && isSameStream && (before.offset >= now.offset || (recovered && this.#filling))) return;
    this.#judge(isSameStream, before !== undefined || (now !== undefined && (isLive || this.#wasLive)));
    // What was missed before cannot be fetched any more.
    const earlier = this.#turn;
    while (isLive && recovered && this.#filling) {
      this.#filled("epoch_changed");
      if (earlier !== this.#turn) return; // a listener may have ended this connection
    }
    const turn = this.#reset();
    this.#wasLive = false;
    const isReplayed = recovered && !isLive && before && now;
    // It may have been given up and wanted again meanwhile, from a position of a numbering that is neither, or from further back.
    const isOther = isReplayed && named && ![named.epoch, now.epoch].includes(before.epoch);
    // A replay goes on from the own offset, under whatever epoch.
    if (isReplayed) this.position = { ...(isOther ? named : before), epoch: now.epoch };
    else if (isAsked || !isSameStream) this.position = now;
    const isMissing = isReplayed && !isOther && before.offset < (named ?? now).offset;
    this.#arrived = (recovered && !isLive ? named : now)?.offset ?? 0;
    this.#events.rates = entry.client_events ?? {};
    this.#become({ name: "subscribed", ...(isReplayed && !isOther && { recovered: { from: before, to: now } }) });
    if (turn !== this.#turn) return; // the share may belong to another subscription now
    this.#shares.settle(this.position);
    // Nobody has recovered what a server's own subscription missed, nor what lies before a replay for an earlier wish.
    if (isMissing || (wasKnown && !isAsked && isSameStream)) return void this.#fill();
    if (!wasKnown || (recovered && !isOther)) return;
    const reason = entry.reason ?? (now ? (before ? "epoch_changed" : "unknown_position") : "not_recoverable");
    this.#gap(reason, before, isOther ? this.position : now);
  }

  /** The connection is lost. */
  lost(): void {
    this.loseAnswer();
    this.#reset();
    if (this.state.name === "subscribed") this.#wasLive = true;
    if (this.state.name !== "unsubscribed") this.#become({ name: "subscribing" });
  }

  /** There is no subscription any more, and none is wanted. */
  end(error?: HauynaError): void {
    this.#reset();
    this.presence.clear();
    this.isWanted = false;
    this.options = {};
    this.#judge(false);
    // First: who is told may subscribe again.
    this.#shares.clear(error ?? new HauynaError("unsubscribed", "unsubscribed"));
    this.#become({ name: "unsubscribed", ...(error && { error }) });
    this.#review();
  }

  /** The client was closed: by the application itself, where that is `isQuiet`. Who waits is refused. */
  refuse(error: HauynaError, isQuiet: boolean): void {
    this.listeners.emit("closed", isQuiet ? {} : { error });
    if (this.#shares.refuse(error)) this.end(error);
  }

  /** Tells the server that it was given up; without a connection there is nothing to tell. */
  async giveUp(): Promise<void> {
    const isAsked = this.mayBeThere();
    if (isAsked) this.endings++;
    try {
      if (isAsked) await this.askToEnd();
    } catch (error) {
      if (error instanceof ServerError && error.temporary) this.#isLeftBehind = true;
      this.isThere ||= !(error instanceof ServerError) || error.temporary;
      // Without an answer, the next connection shows what the server knows; another end is answered by itself.
      if (!this.isGivenUp || this.endings > 1 || !(error instanceof ServerError)) return;
      if (error.temporary) return this.#after(delayAfter(error), () => this.giveUp());
    } finally {
      if (isAsked) this.endings--;
    }
    if (this.isGivenUp && !this.endings && this.#isLeftBehind && this.isThere) return this.giveUp(); // the earlier end was refused
    if (this.isGivenUp && !this.endings) this.isGivenUp = this.#isLeftBehind = false; // the server may subscribe this client again
    this.#review();
  }

  receive(message: ServerMessage): void {
    // Before the answer to a subscription there is only what is left of an earlier one.
    if (this.isGivenUp || this.state.name === "subscribing") return;
    const type = typeOf(message);
    if (type === "client_event") return this.listeners.emit(`event ${message["event"]}`, { ...message, type: message["event"] });
    if (type && type !== "gap") return this.presence.receive(message);
    if (type) void this.presence.refresh();
    else if (this.position && isNumber(message["offset"])) {
      const { offset } = message;
      // Another epoch that nobody has told of? The history knows.
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

  /** Stays in memory as long as there is something to remember. */
  #review(): void {
    const isIdle = this.state.name === "unsubscribed" && !this.isWanted && !this.isGivenUp;
    this.host.keep(this, !isIdle || !this.listeners.isEmpty);
  }

  /** Whether the server remembers what was sent here before: where it may not, that is not sent again. */
  #judge(isSameStream: boolean, hasTurned = false): void {
    if (!isSameStream && (hasTurned || this.isUnjudged)) this.host.outbox.forget((other) => other !== this.name);
    this.isUnjudged = false;
  }

  /** What was under way means nothing any more. */
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
      // The server's application was quicker, or what was not ended is still there: where it stands, nobody knows.
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
    // From the own position, never from one further on. Of another epoch the history says so.
    this.position ??= { epoch, offset };
    void this.#fill();
  }

  /** Asks the history for everything after the position, before anything else is delivered. */
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
        // It is the same numbering, under whatever epoch.
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
   * Goes on with what was kept; where there is a `reason`, without what the history did not have. Where the epoch is
   * another one, offsets say nothing: everything is delivered until the server names a position.
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
      // The history may have had some of them.
      const next = before && kept.find(({ offset }) => isNumber(offset) && offset > before.offset);
      const to = next && !isLost ? { ...before, offset: (next["offset"] as number) - 1 } : undefined;
      this.position = to ?? before;
      this.#gap(reason, before, to);
    }
    // Another gap among them keeps the rest.
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
