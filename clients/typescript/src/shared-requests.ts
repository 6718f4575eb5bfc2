// The requests of pages, and the messages of channels that they receive. A page's subscription is a share of
// the worker's. Messages that a page has missed come from the server's history.

import { type Client, HauynaError, type Position, ServerError, type Subscribed } from "hauyna";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/** The server's description of a channel. */
export interface KnownChannel {
  readonly channel: string;
  readonly recoverable: boolean;
  epoch?: string | undefined;
  offset?: number | undefined;
  client_events?: unknown;
}

/** A channel of the worker's connection. */
interface Entry {
  known: KnownChannel;
  /**
   * The message with which the server reports presence: `presence_state` or `occupancy`; undefined if it
   * reports none.
   */
  presence?: string;
  /** The latest gap. A page that subscribes later may miss messages behind its position. */
  gap?: Wire | undefined;
  /** Whether the server's application has subscribed the connection, and thereby every page. */
  isServerSubscribed: boolean;
}

/** The answer to a request, and what follows it. */
interface RequestResult {
  readonly data?: unknown;
  /** Whether the answer is still true at the moment of sending. */
  readonly isStillTrue?: () => boolean;
  readonly follow?: () => void;
}

/** The requests of the pages of one connection. */
export class Requests {
  readonly #tabs: ReadonlySet<Tab>;
  readonly #after: (delay: number, run: () => void) => () => void;
  readonly #channels = new Map<string, Entry>();
  /** The last token that was sent for each channel. */
  readonly #lastTokens = new Map<string, string>();

  constructor(tabs: ReadonlySet<Tab>, after: (delay: number, run: () => void) => () => void) {
    this.#tabs = tabs;
    this.#after = after;
  }

  // Messages of the server

  /** Handles `session`. Returns whether something may be missing that the pages cannot notice. */
  handleSession(session: Wire): boolean {
    const entries = (session["subscriptions"] as (KnownChannel & { recovered?: boolean })[] | undefined) ?? [];
    const resumedChannels = new Set(session["resumed"] === true ? entries.map(({ channel }) => channel) : []);
    // The server may have ended some subscriptions while there was no connection.
    const ended = [...this.#channels].filter(([channel]) => !resumedChannels.has(channel));
    for (const [, entry] of ended) entry.isServerSubscribed = false;
    const isMissed = ended.filter(([channel]) => !this.#forgetUnused(channel)).length > 0;
    for (const entry of entries) this.#updateEntry(entry);
    return session["resumed"] !== true || isMissed || entries.some(({ recovered }) => recovered !== true);
  }

  /** Passes a message to the pages that it concerns. */
  forward(message: Wire, client: Client | undefined): void {
    const { type, channel, id } = message;
    const data = message["data"] as KnownChannel | null | undefined;
    if (type === "ack" && typeof data?.channel === "string" && data.recoverable !== undefined) this.#updateEntry(data);
    if (CLIENT_ONLY_TYPES.has(type) || (type === "error" && id !== undefined)) return;
    if (typeof channel !== "string") return this.#sendToAll(message);
    if (type === "unsubscribed") return this.#subscriptionEnded(channel, message, client);
    if (type === "subscribed") {
      const isUnrequested = ![...this.#tabs].some((tab) => tab.has(channel));
      const entry = this.#updateEntry(message as unknown as KnownChannel);
      entry.isServerSubscribed ||= isUnrequested;
      if (entry.isServerSubscribed) for (const tab of this.#tabs) tab.addServed(channel);
    }
    const entry = this.#channels.get(channel);
    // The message is for the user, about a channel to which no page is subscribed.
    if (!entry) return this.#sendToAll(message);
    if (/^(presence_state|occupancy)$/.test(type)) entry.presence = type;
    if (type === "gap" && entry.known.recoverable && message["epoch"] != null) entry.gap = message;
    if (typeof message["offset"] === "number" && !/^(presence_|subscribed|gap)/.test(type)) entry.known.offset = message["offset"];
    for (const tab of this.#tabs) tab.deliver(channel, message, client?.user);
  }

  /**
   * Informs a page with a new session about the channels to which the server's application has subscribed it.
   */
  announceServed(tab: Tab, client: Client | undefined): void {
    for (const [channel, { known, isServerSubscribed, presence, gap }] of this.#channels) {
      if (!isServerSubscribed) continue;
      tab.addServed(channel);
      tab.send({ type: "subscribed", ...known });
      if (gap) tab.send(gap);
      if (presence && client) void this.#sendPresence(client, tab, channel, presence);
    }
  }

  /** Releases the subscriptions of a page that is gone or has no socket. */
  async releaseTab(tab: Tab): Promise<void> {
    const { channels } = tab;
    await tab.endShares();
    for (const channel of channels) if (!this.#channels.get(channel)?.isServerSubscribed) this.#forgetUnused(channel);
  }

  clear(): void {
    this.#channels.clear();
    this.#lastTokens.clear();
  }

  /** Forgets a channel that no page uses. Returns false if a page does. */
  #forgetUnused(channel: string): boolean {
    if ([...this.#tabs].some((tab) => tab.has(channel) || tab.currentSubscribe(channel))) return false;
    this.#channels.delete(channel);
    this.#lastTokens.delete(channel);
    return true;
  }

  #subscriptionEnded(channel: string, message: Wire, client: Client | undefined): void {
    // A pending subscribe request is decided by its answer.
    if (client?.channel<object>(channel as never).state.name !== "subscribed") return;
    for (const tab of this.#tabs) tab.removeEnded(channel, message);
    this.#forgetUnused(channel);
  }

  #updateEntry({ channel, epoch, offset, recoverable, client_events }: KnownChannel): Entry {
    const known = { channel, epoch, offset, recoverable, client_events };
    const entry = { isServerSubscribed: false, ...this.#channels.get(channel), known, gap: undefined };
    this.#channels.set(channel, entry);
    return entry;
  }

  #sendToAll(message: Wire): void {
    for (const tab of this.#tabs) tab.send(message);
  }

  // Requests of pages

  /**
   * Answers a request of a page exactly once, unless its socket ends before. Returns whether the server's answer
   * was late.
   */
  async answer(client: Client, tab: Tab, message: Wire): Promise<boolean> {
    const { id } = message;
    const { currentSocket: socket } = tab;
    try {
      const { data, isStillTrue, follow } = await this.#perform(client, tab, message);
      if (tab.currentSocket !== socket) return false;
      // The server may have ended the subscription meanwhile. The page then asks again.
      if (isStillTrue?.() === false) throw new HauynaError("unsubscribed", SUBSCRIPTION_ENDED);
      if (id !== undefined) tab.send({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      // The page's socket ends with the connection, and the page's client decides what follows.
      if (tab.currentSocket !== socket) return isLate(error);
      if (isConnectionLoss(error)) {
        tab.endSession(LOST, "lost before the answer");
        tab.post({ say: "network", isThere: true });
      } else tab.send({ type: "error", id, timestamp: Date.now(), ...refusalOf(error) });
      return isLate(error);
    }
    return false;
  }

  async #perform(client: Client, tab: Tab, message: Wire): Promise<RequestResult> {
    const name = String(message.channel);
    const { type, id: _, ...fields } = message;
    if (type === "subscribe_channel") return this.#subscribe(client, tab, name, message);
    if (type === "unsubscribe_channel") {
      await tab.endShares(name);
      const isServerSubscribed = this.#channels.get(name)?.isServerSubscribed;
      // A subscription that the server's application created has no shares, and is ended explicitly.
      if (this.#forgetUnused(name) && isServerSubscribed) await client.channel<object>(name as never).unsubscribe();
      return {};
    }
    if (type === "channel_message" && message["echo"] === false) return { data: await this.#publishWithoutEcho(client, tab, name, fields) };
    // The worker's subscription sends the metadata, and sends them again after a reconnect.
    if (type === "update_presence") return { data: await client.channel<object>(name as never).presence.update(message["metadata"] as never) };
    if (type !== "client_event") return { data: await client.request(type, fields as never, { timeout: MAX_TIMEOUT }) };
    const event = String(message["event"]);
    client.channel<object>(name as never).send(event, message["data"] as never);
    const taken = this.#channels.get(name)?.known.client_events as object | undefined;
    // The server does not send the event back to this connection, so the other pages receive it from here.
    for (const other of this.#tabs) {
      if (other === tab || (taken && !(event in taken))) continue;
      other.deliver(name, { type, channel: name, event, user: client.user, data: message["data"] });
    }
    return {};
  }

  async #subscribe(client: Client, tab: Tab, name: string, message: Wire): Promise<RequestResult> {
    const { currentSocket: socket } = tab;
    const isFirst = ![...this.#tabs].some((other) => other.has(name));
    const request = tab.startSubscribe(name);
    let share: Subscribed;
    try {
      share = await this.#addShare(client, name, message);
    } catch (error) {
      if (tab.currentSubscribe(name) === request) void tab.endShares(name);
      this.#forgetUnused(name);
      throw error;
    }
    if (tab.currentSocket !== socket || tab.currentSubscribe(name) !== request) {
      await share.unsubscribe();
      this.#forgetUnused(name);
      throw new HauynaError("unsubscribed", SUBSCRIPTION_ENDED);
    }
    const flow = tab.keepShare(name, share);
    const { known, presence, gap } = this.#channels.get(name) ?? { known: { channel: name, recoverable: share.recoverable, ...share.position } };
    const answer = { ...known };
    let recovered: Wire[] | string | undefined;
    try {
      if (message["recover"]) recovered = await this.#loadMissed(client, answer, message["recover"] as Position);
    } catch (error) {
      if (tab.currentSubscribe(name) === request) void tab.endShares(name);
      this.#forgetUnused(name);
      throw error;
    }
    return {
      isStillTrue: () => tab.currentSubscribe(name) === request,
      data: { ...answer, ...(Array.isArray(recovered) ? { recovered: true } : recovered && { recovered: false, reason: recovered }) },
      follow: () => {
        const missed = Array.isArray(recovered) ? recovered : [];
        flow.release(gap ? [...missed, gap] : missed);
        if (presence && !isFirst) void this.#sendPresence(client, tab, name, presence);
      },
    };
  }

  /**
   * Adds a share to the worker's subscription. If it was refused with another page's token, this page's token
   * is tried.
   */
  async #addShare(client: Client, name: string, message: Wire): Promise<Subscribed> {
    const token = message["token"] as string | undefined;
    const getToken = () => {
      this.#lastTokens.set(name, token as string);
      return token as string;
    };
    for (;;) {
      try {
        return await client.channel<object>(name as never).subscribe({
          ...(message["metadata"] != null && { metadata: message["metadata"] as never }),
          ...(token !== undefined && { getToken }),
        });
      } catch (error) {
        if (token === undefined || !(error instanceof ServerError) || this.#lastTokens.get(name) === token) throw error;
      }
    }
  }

  /**
   * Returns the messages after a position up to the channel's current one, or the reason why they cannot be
   * loaded.
   */
  async #loadMissed(
    client: Client,
    { channel, epoch, offset = 0, recoverable }: KnownChannel,
    since: Position,
  ): Promise<Wire[] | string | undefined> {
    if (!recoverable) return undefined;
    if (since.epoch !== epoch) return "epoch_changed";
    const messages: Wire[] = [];
    try {
      for (let loaded = since.offset; loaded < offset; ) {
        const page = (await client.request("history", { channel, since: { epoch, offset: loaded } } as never)) as { messages: Wire[] };
        const last = page.messages.at(-1)?.["offset"];
        if (!(typeof last === "number" && last > loaded)) return "too_old";
        messages.push(...page.messages.filter((message) => (message["offset"] as number) <= offset));
        loaded = last;
      }
    } catch (error) {
      const reason = error instanceof ServerError ? error.details["reason"] : undefined;
      if (typeof reason === "string") return reason;
      throw error;
    }
    return messages;
  }

  /** Sends the members to a page that is not the first subscriber. The server has sent them to the first. */
  async #sendPresence(client: Client, tab: Tab, name: string, type: string): Promise<void> {
    const channel = client.channel<object>(name as never);
    if (type === "occupancy") return tab.deliver(name, { type, channel: name, count: channel.presence.count });
    const flow = tab.currentFlow(name);
    const release = tab.holdPresence(name);
    try {
      let list = (await client.request("presence", { channel: name } as never)) as { users: object; next?: string };
      const { users: firstUsers, ...first } = list;
      const users = { ...firstUsers };
      const count = () => Object.keys(users).length;
      // A page without a new user is the last one, even if it names another.
      for (let before = 0; list.next !== undefined && count() > before && tab.currentFlow(name) === flow; ) {
        before = count();
        list = (await client.request("presence", { channel: name, after: list.next } as never)) as typeof list;
        Object.assign(users, list.users);
      }
      // Changes that arrived meanwhile follow, as the number of the first page tells.
      release({ type, ...first, channel: name, users });
    } catch (error) {
      release();
      const isRefused = error instanceof ServerError;
      // In other cases the connection is lost, and the page will ask again, or it may not see the members.
      if (!isLate(error) && !(isRefused && error.temporary)) return;
      const sendAgain = () => void (flow !== undefined && tab.currentFlow(name) === flow && this.#sendPresence(client, tab, name, type));
      this.#after(Math.max((isRefused && error.retryAfter) || 0, MIN_RETRY_DELAY), sendAgain);
    }
  }

  /**
   * Publishes without an echo for this page. The server echoes to the connection, because the browser's other
   * pages receive the message like any subscriber. The echo is recognised by its offset, and in channels
   * without offsets by its content.
   */
  async #publishWithoutEcho(client: Client, tab: Tab, name: string, { echo: _, ...fields }: Record<string, unknown>): Promise<unknown> {
    const isNumbered = this.#channels.get(name)?.known.recoverable !== false;
    const flow = isNumbered ? tab.pauseChannel(name) : undefined;
    const cancelSuppression = isNumbered ? () => {} : tab.suppressEcho(name, fields["content"]);
    let position: Position | undefined;
    const text = JSON.stringify(fields["content"]);
    const hasSameContent = ({ type, user, content }: Wire) => type === "message" && user === client.user && JSON.stringify(content) === text;
    // A late answer must not hold up the channel.
    const cancel = flow && this.#after(OFFSET_TIMEOUT, () => flow.resume(hasSameContent));
    try {
      position = (await client.request("channel_message", fields as never, { timeout: MAX_TIMEOUT })) as Position | undefined;
      // The echo may still arrive. It never does if the publication was a repetition.
      this.#after(ECHO_TIMEOUT, cancelSuppression);
      return position;
    } catch (error) {
      cancelSuppression();
      throw error;
    } finally {
      cancel?.();
      flow?.resume((message) => position !== undefined && message["offset"] === position.offset);
    }
  }
}

/** Whether the answer was lost with a connection, even if another connection has replaced it. */
function isConnectionLoss(error: unknown): boolean {
  return error instanceof HauynaError && ["outcome_unknown", "not_connected", "closed", "gave_up"].includes(error.kind);
}

/** Whether the answer did not come in time. */
function isLate(error: unknown): boolean {
  return error instanceof HauynaError && error.kind === "timeout";
}

/** Converts an error to the fields of an `error` message. */
function refusalOf(error: unknown): object {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ServerError) {
    const { type, temporary, details } = error;
    return { error_type: type, message, temporary, details };
  }
  const kind = error instanceof HauynaError ? error.kind : undefined;
  if (kind === "invalid") return { error_type: "validation_error", message, temporary: false };
  if (kind === "timeout") return { error_type: "timeout", message, temporary: true };
  return { error_type: "unavailable", message, temporary: true };
}

/** The messages between the server and the worker's client alone. */
const CLIENT_ONLY_TYPES = new Set(["session", "ack", "pong", "retry_policy", "reconnect"]);
/**
 * Milliseconds to wait for an answer. Each page has its own timeout; this one only prevents that requests
 * stay forever.
 */
const MAX_TIMEOUT = 3_600_000;
/** Milliseconds that a channel's messages wait for the offset of a publication. */
const OFFSET_TIMEOUT = 2_000;
/** Milliseconds: the minimum delay before a request that failed temporarily is repeated. */
const MIN_RETRY_DELAY = 1_000;
const SUBSCRIPTION_ENDED = "given up before the answer";
/** Milliseconds to wait for the echo of a publication after its answer. */
const ECHO_TIMEOUT = 10_000;
