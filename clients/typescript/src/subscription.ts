// The subscription behind a channel, with its position. It decides for each message whether it is new, and
// after each reconnect and each gap whether messages are missing, which it always reports.

import { delayAfter } from "./backoff.js";
import type { ChannelState, Published, PublishOptions, SubscribeOptions, Subscribed } from "./channel.js";
import { EventSender } from "./client-events.js";
import { HauynaError, ServerError, quiet } from "./error.js";
import type { ChannelHost } from "./channel-host.js";
import { distance, positionOf } from "./position.js";
import { Roster } from "./presence.js";
import { type Position, type ServerMessage, type SubscriptionEntry, typeOf } from "./protocol.js";
import { Shares } from "./subscription-shares.js";
import { CatchUp } from "./catch-up.js";

/** Milliseconds to wait for the token of a channel. */
const TOKEN_TIMEOUT = 60_000;

/** The state of one channel in a client. */
export class Subscription extends CatchUp {
  /** Prevents Vue from making a reactive proxy of this object. */
  readonly __v_skip = true;
  readonly presence: Roster;
  state: ChannelState = { name: "unsubscribed" };
  /** Whether the application wants the subscription, with or without a connection. */
  isWanted = false;
  /** Whether the application has ended the subscription, and the server may not know it yet. */
  isGivenUp = false;
  /** Whether the server refused to end the subscription for now. It may then exist although it was ended. */
  #wasEndRefused = false;
  /** Whether a warning was logged on this connection, since the subscription was last established or ended. */
  #hasWarned = false;
  /**
   * How many unsubscribe requests wait for their answer. Until then, the server's messages concern the
   * subscription that ends.
   */
  endings = 0;
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
      const isNext = echo === false && !this.held && distance(this.position, published) === 1;
      if (published && isNext) this.arrived = (this.position = published).offset;
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
    if (generation !== this.generation || !this.host.outbox.isConnected) return; // the next connection subscribes
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
      if (generation !== this.generation) return;
      this.#cancelPending();
      const recover = this.position;
      const message = { type: "subscribe_channel", channel: this.name, metadata, recover, token };
      // Messages may follow directly after the answer.
      const take = (entry: unknown) => {
        this.exists = true;
        if (generation === this.generation) return this.start(entry as SubscriptionEntry, recover);
        // The server's application has ended another subscription meanwhile, and this client does not know of
        // this one.
        if (this.state.name !== "unsubscribed" || this.isGivenUp) return;
        this.isGivenUp = true;
        void this.giveUp();
      };
      await this.requestStart(() => generation === this.generation, { message, timeout: Infinity, take });
    } catch (error) {
      const wasTooLarge =
        generation + 1 === this.generation &&
        this.state.name === "subscribing" &&
        (error as Partial<ServerError>).type === "payload_too_large";
      // A message that is too large is not sent again, because it would end the next connection as well.
      if (generation === this.generation || wasTooLarge) this.#subscribeFailed(error);
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
    if (isLive && isSameStream && (before.offset >= current.offset || (recovered && this.held))) return;
    this.forgetKeys(isSameStream, before !== undefined || (current !== undefined && (isLive || this.#wasLive)));
    // Messages that were missed before cannot be loaded any more.
    const generationBefore = this.generation;
    while (isLive && recovered && this.held) {
      this.finishCatchUp("epoch_changed");
      if (generationBefore !== this.generation) return; // a listener may have ended this connection
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
    this.arrived = (recovered && !isLive ? named : current)?.offset ?? 0;
    this.#eventSender.rates = entry.client_events ?? {};
    this.#setState({ name: "subscribed", ...(isReplayed && !isThirdEpoch && { recovered: { from: before, to: current } }) });
    if (generation !== this.generation) return; // the share may belong to another subscription now
    this.#shares.settle(this.position);
    // The server does not recover the subscriptions that its application creates, nor the messages before a
    // replay that an earlier request caused.
    if (isMissing || (wasKnown && !isAsked && isSameStream)) return void this.catchUp();
    if (!wasKnown || (recovered && !isThirdEpoch)) return;
    const reason = entry.reason ?? (current ? (before ? "epoch_changed" : "unknown_position") : "not_recoverable");
    this.reportGap(reason, before, isThirdEpoch ? this.position : current);
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
    this.forgetKeys(false);
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

  override receive(message: ServerMessage): void {
    // Before the answer to a subscribe request, all messages belong to an earlier subscription.
    if (this.isGivenUp || this.state.name === "subscribing") return;
    const type = typeOf(message);
    if (type === "client_event") return this.listeners.emit(`event ${message["event"]}`, { ...message, type: message["event"] });
    if (type && type !== "gap") return this.presence.receive(message);
    if (type) void this.presence.refresh();
    super.receive(message);
  }

  /** Updates whether the session keeps this channel in memory. */
  #updateKept(): void {
    const isIdle = this.state.name === "unsubscribed" && !this.isWanted && !this.isGivenUp;
    this.host.keep(this, !isIdle || !this.listeners.isEmpty);
  }

  /** Cancels what is under way, and starts a new generation. */
  #startGeneration(): number {
    this.#isRenewalAwaited = false;
    this.#cancelPending();
    this.held = undefined;
    return ++this.generation;
  }

  #forgetConnection(): number {
    this.#eventSender.clear();
    this.#wasEndRefused = this.#hasWarned = false;
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
    if (!this.#hasWarned) this.host.logger.warn("cannot subscribe", { channel: this.name, error });
    this.#hasWarned = true;
    this.#schedule(delayAfter(error), () => this.restore());
  }

  #schedule(delay: number, run: () => Promise<void>): void {
    this.#cancelPending();
    this.#cancelPending = this.environment.after(delay, () => void run());
  }
}

/** Returns the options that are not undefined. */
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
