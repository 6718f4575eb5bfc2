// The subscription behind a channel, with its position. It decides for each message whether it is new, and
// after each reconnect and each gap whether messages are missing, which it always reports.

import { SubscriptionRequests } from "./subscription-requests.js";
import { delayAfter } from "./backoff.js";
import type { ChannelState, Gap, Published, PublishOptions, SubscribeOptions, Subscribed } from "./channel.js";
import { EventSender } from "./client-events.js";
import { HauynaError, ServerError, quiet } from "./error.js";
import {
  type DroppedMessages,
  type HeldMessages,
  type HistoryAnswer,
  MAX_HELD,
  TOKEN_TIMEOUT,
  UNKNOWN_EPOCH,
  defined,
  distance,
  isOffset,
  positionOf,
} from "./catch-up.js";
import type { ChannelHost } from "./channel-host.js";
import { on } from "./listeners.js";
import { Roster } from "./presence.js";
import { type Position, type RecoveryReason, type ServerMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Shares } from "./subscription-shares.js";

/** The state of one channel in a client. */
export class Subscription extends SubscriptionRequests {
  /** Prevents Vue from making a reactive proxy of this object. */
  readonly __v_skip = true;
  readonly presence: Roster;
  state: ChannelState = { name: "unsubscribed" };
  position: Position | undefined;
  /** Whether the application wants the subscription, with or without a connection. */
  isWanted = false;
  /** Whether the application has ended the subscription, and the server may not know it yet. */
  isGivenUp = false;
  /** Whether the server refused to end the subscription for now. It may then exist although it was ended. */
  #wasEndRefused = false;
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
  readonly #eventSender: EventSender;
  /** Whether the server's application may create its subscription again, on a connection without it. */
  #isRenewalAwaited = false;
  /** The messages that arrive while dropped ones are loaded from the history. */
  #heldMessages: HeldMessages | undefined;
  /** The offset of the last message that arrived. Within one epoch, the next one is higher. */
  #arrived = 0;
  /**
   * Increases with each connection and each change of the subscription. Answers of an earlier generation are
   * ignored.
   */
  #generation = 0;
  #cancelPending = () => {};

  constructor(name: string, host: ChannelHost) {
    super(name, host, () => this.#updateKept());
    this.presence = new Roster(this.listeners, {
      ask: (after) => host.reads.retry(() => host.outbox.sendNow({ message: { type: "presence", channel: name, after } })),
      update: (metadata) => {
        let options = this.options;
        const take = () => void (options.metadata = metadata);
        // The outbox calls this right before it sends the request, so it concerns the subscription of that
        // moment.
        const isHeld = () => (options = this.options) && this.state.name === "subscribing";
        return host.outbox.request({
          message: { type: "update_presence", channel: name, metadata },
          retry: "always",
          take,
          isHeld,
        }) as Promise<void>;
      },
    });
    this.#eventSender = new EventSender(host.environment, (event, data) => {
      try {
        if (this.state.name === "subscribed") host.outbox.send({ type: "client_event", channel: name, event, data });
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
    this.#updateKept();
    if (this.state.name === "subscribed") this.#shares.settle(this.position);
    if (this.state.name === "unsubscribed") this.position = options.since ?? this.position;
    if (this.state.name === "unsubscribed" || this.#isRenewalAwaited) void this.restore();
    return share;
  }

  async unsubscribe(): Promise<void> {
    const wasRequested = this.state.name !== "unsubscribed" || this.isGivenUp;
    this.isGivenUp ||= wasRequested;
    this.position = undefined;
    this.end();
    this.#wasLive = false;
    if (wasRequested) await this.giveUp();
  }

  publish(content: unknown, { key, echo, ...options }: PublishOptions = {}): Promise<Published> {
    const message = { type: "channel_message", channel: this.name, content, key: key ?? this.host.key(), ...(echo === false && { echo }) };
    const take = (data: unknown) => {
      const published = positionOf(data);
      // A publication without an echo counts as received. If it is the next one, no message lies between it
      // and the position.
      const isNext = echo === false && !this.#heldMessages && distance(this.position, published) === 1;
      if (published && isNext) this.#arrived = (this.position = published).offset;
      return published;
    };
    return this.ask({ ...options, message, retry: "keyed", channel: this.name, take }) as Promise<Published>;
  }

  send(type: string, data?: unknown): void {
    if (this.state.name === "subscribed") this.#eventSender.send(type, data);
  }

  /** Subscribes on the current connection. Resolves when the server has decided. */
  async restore(): Promise<void> {
    const generation = this.#startGeneration();
    this.#setState({ name: "subscribing" });
    if (generation !== this.#generation || !this.host.outbox.isConnected) return; // the next connection subscribes
    const { metadata, getToken } = this.options;
    if (getToken) {
      // A token source that does not answer is called again.
      this.#schedule(TOKEN_TIMEOUT, () => this.restore());
      const cancels = [this.#cancelPending, this.host.outbox.early()];
      this.#cancelPending = () => cancels.forEach((cancel) => cancel());
    }
    try {
      // This waits a moment even without a token: a listener of the new state may end the subscription first.
      const token = await getToken?.();
      if (generation !== this.#generation) return;
      this.#cancelPending();
      const recover = this.position;
      const message = { type: "subscribe_channel", channel: this.name, metadata, recover, token };
      // Messages may follow directly after the answer.
      const take = (entry: unknown) => {
        this.exists = true;
        if (generation === this.#generation) return this.start(entry as SubscriptionEntry, recover);
        // The server's application has ended another subscription meanwhile, and this client does not know of
        // this one.
        if (this.state.name !== "unsubscribed" || this.isGivenUp) return;
        this.isGivenUp = true;
        void this.giveUp();
      };
      await this.requestStart(() => generation === this.#generation, { message, timeout: Infinity, take });
    } catch (error) {
      const wasTooLarge =
        generation + 1 === this.#generation &&
        this.state.name === "subscribing" &&
        (error as Partial<ServerError>).type === "payload_too_large";
      // A message that is too large is not sent again, because it would end the next connection as well.
      if (generation === this.#generation || wasTooLarge) this.#subscribeFailed(error);
    }
  }

  /**
   * Starts the subscription that the server has confirmed on this connection. The server may replay the
   * messages after `named`, or continue the stream under another epoch.
   */
  start(entry: SubscriptionEntry, named?: Position): void {
    const before = this.position;
    const current = positionOf(entry);
    const { recovered } = entry;
    const isLive = this.state.name === "subscribed";
    const isSameStream = before !== undefined && before.epoch === current?.epoch;
    const isAsked = recovered != null;
    const wasKnown = this.#wasLive || before !== undefined || (isLive && isAsked);
    // The client has these messages already, or is loading them.
    if (isLive && isSameStream && (before.offset >= current.offset || (recovered && this.#heldMessages))) return;
    this.#judgeKeys(isSameStream, before !== undefined || (current !== undefined && (isLive || this.#wasLive)));
    // Messages that were missed before cannot be loaded any more.
    const generationBefore = this.#generation;
    while (isLive && recovered && this.#heldMessages) {
      this.#finishCatchUp("epoch_changed");
      if (generationBefore !== this.#generation) return; // a listener may have ended this connection
    }
    const generation = this.#forgetConnection();
    this.#wasLive = false;
    const isReplayed = recovered && !isLive && before && current;
    // The subscription may have been ended and requested again meanwhile, from an older position or from one
    // of a third epoch.
    const isThirdEpoch = isReplayed && named && ![named.epoch, current.epoch].includes(before.epoch);
    // A replay continues after the client's offset, under any epoch.
    if (isReplayed) this.position = { ...(isThirdEpoch ? named : before), epoch: current.epoch };
    else if (isAsked || !isSameStream) this.position = current;
    const isMissing = isReplayed && !isThirdEpoch && before.offset < (named ?? current).offset;
    this.#arrived = (recovered && !isLive ? named : current)?.offset ?? 0;
    this.#eventSender.rates = entry.client_events ?? {};
    this.#setState({ name: "subscribed", ...(isReplayed && !isThirdEpoch && { recovered: { from: before, to: current } }) });
    if (generation !== this.#generation) return; // the share may belong to another subscription now
    this.#shares.settle(this.position);
    // The server does not recover the subscriptions that its application creates, nor the messages before a
    // replay that an earlier request caused.
    if (isMissing || (wasKnown && !isAsked && isSameStream)) return void this.#catchUp();
    if (!wasKnown || (recovered && !isThirdEpoch)) return;
    const reason = entry.reason ?? (current ? (before ? "epoch_changed" : "unknown_position") : "not_recoverable");
    this.#reportGap(reason, before, isThirdEpoch ? this.position : current);
  }

  /** Handles the loss of the connection. */
  lost(): void {
    this.loseAnswer();
    this.#forgetConnection();
    if (this.state.name === "subscribed") this.#wasLive = true;
    if (this.state.name !== "unsubscribed") this.#setState({ name: "subscribing" });
  }

  /**
   * Waits for the server's application to create its subscription again, and ends the subscription after
   * `limit` milliseconds. A channel without such a subscription is ended.
   */
  awaitRenewal(limit: number): void {
    if (this.state.name !== "subscribing") return this.end();
    this.#schedule(limit, async () => this.endByServer());
    this.#isRenewalAwaited = true;
  }

  /** Handles that the server has ended the subscription, or has not created it again. */
  endByServer(): void {
    this.end(new HauynaError("refused", "the server ended the subscription"));
  }

  /** Ends the subscription with all its shares. */
  end(error?: HauynaError): void {
    this.#forgetConnection();
    this.presence.clear();
    this.isWanted = false;
    this.options = {};
    this.#judgeKeys(false);
    // The shares end first, because a listener of the new state may subscribe again.
    this.#shares.clear(error ?? new HauynaError("unsubscribed", "unsubscribed"));
    this.#setState({ name: "unsubscribed", ...(error && { error }) });
    this.#updateKept();
  }

  /** Handles that the client is closed, by the application itself if `isQuiet`. Unconfirmed shares fail. */
  refuse(error: HauynaError, isQuiet: boolean): void {
    this.listeners.emit("closed", isQuiet ? {} : { error });
    if (this.#shares.refuse(error)) this.end(error);
  }

  /** Sends the unsubscribe request. Without a connection nothing is sent. */
  async giveUp(): Promise<void> {
    const isRequested = this.mayExist();
    if (isRequested) this.endings++;
    try {
      if (isRequested) await this.requestEnd();
    } catch (error) {
      if (error instanceof ServerError && error.temporary) this.#wasEndRefused = true;
      this.exists ||= !(error instanceof ServerError) || error.temporary;
      // Without an answer, the next connection shows what the server has. If another unsubscribe request is
      // pending, its answer decides.
      if (!this.isGivenUp || this.endings > 1 || !(error instanceof ServerError)) return;
      if (error.temporary) return this.#schedule(delayAfter(error), () => this.giveUp());
    } finally {
      if (isRequested) this.endings--;
    }
    // The server refused an earlier unsubscribe request for now.
    if (this.isGivenUp && !this.endings && this.#wasEndRefused && this.exists) return this.giveUp();
    // From now on, the server's application may subscribe this client again.
    if (this.isGivenUp && !this.endings) this.isGivenUp = this.#wasEndRefused = false;
    this.#updateKept();
  }

  receive(message: ServerMessage): void {
    // Before the answer to a subscribe request, all messages belong to an earlier subscription.
    if (this.isGivenUp || this.state.name === "subscribing") return;
    const type = typeOf(message);
    if (type === "client_event") return this.listeners.emit(`event ${message["event"]}`, { ...message, type: message["event"] });
    if (type && type !== "gap") return this.presence.receive(message);
    if (type) void this.presence.refresh();
    else if (this.position && isOffset(message["offset"])) {
      const { offset } = message;
      // The stream may have changed its epoch without notice, which the history reveals.
      if (offset <= this.#arrived) {
        if (!this.#heldMessages) void this.#catchUp();
        (this.#heldMessages as unknown as HeldMessages).wentBack ??= message;
      }
      this.#arrived = offset;
    }
    this.#handleMessage(message);
  }

  #handleMessage(message: ServerMessage): void {
    if (this.#heldMessages) this.#holdMessage(message, this.#heldMessages);
    else if (typeOf(message)) this.#handleGap(message as unknown as DroppedMessages);
    else this.#deliverMessage(message);
  }

  #deliverMessage(message: ServerMessage): void {
    const { offset } = message;
    if (isOffset(offset) && this.position) {
      if (offset <= this.position.offset) return;
      this.position = { epoch: this.position.epoch, offset };
    }
    this.listeners.emit(on(message.type), message);
  }

  #holdMessage(message: ServerMessage, { kept }: HeldMessages): void {
    if (kept.push(message) < MAX_HELD) return;
    this.#startGeneration(); // the answer comes too late
    this.#finishCatchUp("too_many");
  }

  /** Updates whether the session keeps this channel in memory. */
  #updateKept(): void {
    const isIdle = this.state.name === "unsubscribed" && !this.isWanted && !this.isGivenUp;
    this.host.keep(this, !isIdle || !this.listeners.isEmpty);
  }

  /**
   * Forgets the keys of earlier publications if the server may have forgotten them, so that they are not sent
   * again.
   */
  #judgeKeys(isSameStream: boolean, mayHaveChanged = false): void {
    if (!isSameStream && (mayHaveChanged || this.isUnjudged)) this.host.outbox.forget((other) => other !== this.name);
    this.isUnjudged = false;
  }

  /** Cancels what is under way, and starts a new generation. */
  #startGeneration(): number {
    this.#isRenewalAwaited = false;
    this.#cancelPending();
    return ++this.#generation;
  }

  #forgetConnection(): number {
    this.#eventSender.clear();
    this.#wasEndRefused = false;
    this.#heldMessages = undefined;
    return this.#startGeneration();
  }

  #setState(state: ChannelState): void {
    if (state.name === this.state.name && !state.error) return;
    this.state = state;
    this.#updateKept();
    this.listeners.emit("state", state, () => state === this.state);
    this.host.outbox.flush();
  }

  #subscribeFailed(error: unknown): void {
    if (error instanceof ServerError) {
      // The server's application was faster, or an earlier subscription still exists. Its position is
      // unknown.
      const isSubscribed = error.type === "already_subscribed";
      if (isSubscribed && !this.#wasEndRefused) return this.start({ channel: this.name, recoverable: false });
      if (isSubscribed) void this.giveUp();
      else if (!error.temporary) return this.end(error);
    } else if (error instanceof HauynaError && error.kind === "invalid") return this.end(error);
    else this.host.logger.warn("no token", { channel: this.name, error });
    this.#schedule(delayAfter(error), () => this.restore());
  }

  #schedule(delay: number, run: () => Promise<void>): void {
    this.#cancelPending();
    this.#cancelPending = this.environment.after(delay, () => void run());
  }

  #handleGap({ epoch, offset, missed }: DroppedMessages): void {
    if (epoch == null) return;
    if (!this.position && epoch === UNKNOWN_EPOCH) return this.#reportGap("not_recoverable", undefined, undefined, missed);
    // Loading starts at the client's position, never further on. The history reports if the epoch has
    // changed.
    this.position ??= { epoch, offset };
    void this.#catchUp();
  }

  /** Loads everything after the position from the history, before anything else is delivered. */
  async #catchUp(): Promise<void> {
    const generation = this.#generation;
    const held: HeldMessages = (this.#heldMessages = { kept: [] });
    try {
      for (let since = this.position; since; since = this.position) {
        const message = { type: "history", channel: this.name, since };
        const page = await this.host.reads.retry(async () => generation === this.#generation && this.host.outbox.sendNow({ message }));
        if (generation !== this.#generation) return;
        const { epoch, offset: end, messages } = page as HistoryAnswer;
        if (!(end >= since.offset)) return this.#finishCatchUp("epoch_changed");
        // The stream has the same numbering, under any epoch.
        held.wentBack = undefined;
        this.position = { ...since, epoch };
        this.#judgeKeys(epoch === since.epoch, true);
        for (const message of messages) {
          this.#deliverMessage(message);
          if (generation !== this.#generation) return;
        }
        const { offset } = this.position as Position;
        if (offset >= end) break;
        if (offset > since.offset) continue;
        this.position = since;
        return this.#finishCatchUp(epoch === since.epoch ? "too_old" : "epoch_changed");
      }
      this.#finishCatchUp();
    } catch (error) {
      if (generation !== this.#generation) return;
      this.host.logger.warn("a gap was not closed", { channel: this.name, error });
      this.#finishCatchUp(((error as Partial<ServerError>).details?.["reason"] as RecoveryReason | undefined) ?? "not_recoverable");
    }
  }

  /**
   * Delivers the messages that were held. With a `reason`, the history could not close the gap. If the epoch
   * has changed, offsets have no meaning: all messages are delivered until the server names a position.
   */
  #finishCatchUp(reason?: Gap["reason"]): void {
    if (!this.#heldMessages) return;
    const { kept, wentBack } = this.#heldMessages;
    this.#heldMessages = undefined;
    const generation = this.#generation;
    const isLost = reason === "epoch_changed" || (reason && wentBack);
    if (isLost) this.#judgeKeys(false, true);
    if (reason) {
      const before = this.position;
      // The history may have contained some of them.
      const next = before && kept.find(({ offset }) => isOffset(offset) && offset > before.offset);
      const to = next && !isLost ? { ...before, offset: (next["offset"] as number) - 1 } : undefined;
      this.position = to ?? before;
      this.#reportGap(reason, before, to);
    }
    // If another gap is among them, the rest is held again.
    for (const message of kept) {
      if (generation !== this.#generation) return;
      if (message === wentBack) {
        if (this.#heldMessages) (this.#heldMessages as HeldMessages).wentBack = message;
        else this.position = undefined;
      }
      this.#handleMessage(message);
    }
    if (isLost && generation === this.#generation && !this.#heldMessages) this.position = undefined;
  }

  #reportGap(reason: Gap["reason"], from: Position | undefined, to: Position | undefined, missed?: number): void {
    const gap: Gap = { channel: this.name, reason, from, to, missed: missed ?? distance(from, to) };
    this.listeners.emit("gap", gap);
    this.host.gap(gap);
  }
}
