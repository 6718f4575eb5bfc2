// The requests of pages, and the messages of channels that they receive. A page's subscription is a share of
// the worker's. Messages that a page has missed come from the server's history.

import { type Client, HauynaError, type Position, ServerError, type Subscribed } from "hauyna";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/** The server's description of a channel. */
export interface Known {
  readonly channel: string;
  readonly recoverable: boolean;
  epoch?: string | undefined;
  offset?: number | undefined;
  client_events?: unknown;
}

/** A channel of the worker's connection. */
interface Entry {
  known: Known;
  /**
   * The message with which the server reports presence: `presence_state` or `occupancy`; undefined if it
   * reports none.
   */
  presence?: string;
  /** The latest gap. A page that subscribes later may miss messages behind its position. */
  gap?: Wire | undefined;
  /** Whether the server's application has subscribed the connection, and thereby every page. */
  isServed: boolean;
}

/** The answer to a request, and what follows it. */
interface Done {
  readonly data?: unknown;
  /** Whether the answer is still true at the moment of sending. */
  readonly isTrue?: () => boolean;
  readonly follow?: () => void;
}

/** The requests of the pages of one connection. */
export class Requests {
  readonly #tabs: ReadonlySet<Tab>;
  readonly #after: (delay: number, run: () => void) => () => void;
  readonly #channels = new Map<string, Entry>();
  /** The last token that was sent for each channel. */
  readonly #shown = new Map<string, string>();

  constructor(tabs: ReadonlySet<Tab>, after: (delay: number, run: () => void) => () => void) {
    this.#tabs = tabs;
    this.#after = after;
  }

  // Messages of the server

  /** Handles `session`. Returns whether something may be missing that the pages cannot notice. */
  learn(session: Wire): boolean {
    const entries = (session["subscriptions"] as (Known & { recovered?: boolean })[] | undefined) ?? [];
    const there = new Set(session["resumed"] === true ? entries.map(({ channel }) => channel) : []);
    // The server may have ended some subscriptions while there was no connection.
    const ended = [...this.#channels].filter(([channel]) => !there.has(channel));
    for (const [, entry] of ended) entry.isServed = false;
    const isMissed = ended.filter(([channel]) => !this.#forget(channel)).length > 0;
    for (const entry of entries) this.#know(entry);
    return session["resumed"] !== true || isMissed || entries.some(({ recovered }) => recovered !== true);
  }

  /** Passes a message to the pages that it concerns. */
  pass(message: Wire, client: Client | undefined): void {
    const { type, channel, id } = message;
    const data = message["data"] as Known | null | undefined;
    if (type === "ack" && typeof data?.channel === "string" && data.recoverable !== undefined) this.#know(data);
    if (OWN.has(type) || (type === "error" && id !== undefined)) return;
    if (typeof channel !== "string") return this.#tell(message);
    if (type === "unsubscribed") return this.#ended(channel, message, client);
    if (type === "subscribed") {
      const isTheirs = ![...this.#tabs].some((tab) => tab.has(channel));
      const entry = this.#know(message as unknown as Known);
      entry.isServed ||= isTheirs;
      if (entry.isServed) for (const tab of this.#tabs) tab.adopt(channel);
    }
    const entry = this.#channels.get(channel);
    // The message is for the user, about a channel to which no page is subscribed.
    if (!entry) return this.#tell(message);
    if (/^(presence_state|occupancy)$/.test(type)) entry.presence = type;
    if (type === "gap" && entry.known.recoverable && message["epoch"] != null) entry.gap = message;
    if (typeof message["offset"] === "number" && !/^(presence_|subscribed|gap)/.test(type)) entry.known.offset = message["offset"];
    for (const tab of this.#tabs) tab.pass(channel, message, client?.user);
  }

  /**
   * Informs a page with a new session about the channels to which the server's application has subscribed it.
   */
  introduce(tab: Tab, client: Client | undefined): void {
    for (const [channel, { known, isServed, presence, gap }] of this.#channels) {
      if (!isServed) continue;
      tab.adopt(channel);
      tab.tell({ type: "subscribed", ...known });
      if (gap) tab.tell(gap);
      if (presence && client) void this.#present(client, tab, channel, presence);
    }
  }

  /** Releases the subscriptions of a page that is gone or has no socket. */
  async leave(tab: Tab): Promise<void> {
    const { channels } = tab;
    await tab.release();
    for (const channel of channels) if (!this.#channels.get(channel)?.isServed) this.#forget(channel);
  }

  clear(): void {
    this.#channels.clear();
    this.#shown.clear();
  }

  /** Forgets a channel that no page uses. Returns false if a page does. */
  #forget(channel: string): boolean {
    if ([...this.#tabs].some((tab) => tab.has(channel) || tab.asked(channel))) return false;
    this.#channels.delete(channel);
    this.#shown.delete(channel);
    return true;
  }

  #ended(channel: string, message: Wire, client: Client | undefined): void {
    // A pending subscribe request is decided by its answer.
    if (client?.channel<object>(channel as never).state.name !== "subscribed") return;
    for (const tab of this.#tabs) tab.ended(channel, message);
    this.#forget(channel);
  }

  #know({ channel, epoch, offset, recoverable, client_events }: Known): Entry {
    const known = { channel, epoch, offset, recoverable, client_events };
    const entry = { isServed: false, ...this.#channels.get(channel), known, gap: undefined };
    this.#channels.set(channel, entry);
    return entry;
  }

  #tell(message: Wire): void {
    for (const tab of this.#tabs) tab.tell(message);
  }

  // Requests of pages

  /** Answers a request of a page exactly once, unless its socket ends before. */
  async perform(client: Client, tab: Tab, message: Wire): Promise<void> {
    const { id } = message;
    const { socket } = tab;
    try {
      const { data, isTrue, follow } = await this.#done(client, tab, message);
      if (tab.socket !== socket) return;
      // The server may have ended the subscription meanwhile. The page then asks again.
      if (isTrue?.() === false) throw new HauynaError("unsubscribed", GIVEN_UP);
      if (id !== undefined) tab.tell({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      // The page's socket ends with the connection, and the page's client decides what follows.
      if (tab.socket !== socket) return;
      if (!isLoss(error)) return tab.tell({ type: "error", id, timestamp: Date.now(), ...refusalOf(error) });
      tab.end(LOST, "lost before the answer");
      tab.say({ say: "network", isThere: true });
    }
  }

  async #done(client: Client, tab: Tab, message: Wire): Promise<Done> {
    const name = String(message.channel);
    const { type, id: _, ...fields } = message;
    if (type === "subscribe_channel") return this.#subscribe(client, tab, name, message);
    if (type === "unsubscribe_channel") {
      await tab.release(name);
      const isServed = this.#channels.get(name)?.isServed;
      // A subscription that the server's application created has no shares, and is ended explicitly.
      if (this.#forget(name) && isServed) await client.channel<object>(name as never).unsubscribe();
      return {};
    }
    if (type === "channel_message" && message["echo"] === false) return { data: await this.#publishQuietly(client, tab, name, fields) };
    // The worker's subscription sends the metadata, and sends them again after a reconnect.
    if (type === "update_presence") return { data: await client.channel<object>(name as never).presence.update(message["metadata"] as never) };
    if (type !== "client_event") return { data: await client.request(type, fields as never, { timeout: MAX_TIMEOUT }) };
    const event = String(message["event"]);
    client.channel<object>(name as never).send(event, message["data"] as never);
    const taken = this.#channels.get(name)?.known.client_events as object | undefined;
    // The server does not send the event back to this connection, so the other pages receive it from here.
    for (const other of this.#tabs) {
      if (other !== tab && (!taken || event in taken)) other.pass(name, { type, channel: name, event, user: client.user, data: message["data"] });
    }
    return {};
  }

  async #subscribe(client: Client, tab: Tab, name: string, message: Wire): Promise<Done> {
    const { socket } = tab;
    const isFirst = ![...this.#tabs].some((other) => other.has(name));
    const ask = tab.ask(name);
    let share: Subscribed;
    try {
      share = await this.#share(client, name, message);
    } catch (error) {
      if (tab.asked(name) === ask) void tab.release(name);
      this.#forget(name);
      throw error;
    }
    if (tab.socket !== socket || tab.asked(name) !== ask) {
      await share.unsubscribe();
      this.#forget(name);
      throw new HauynaError("unsubscribed", GIVEN_UP);
    }
    const flow = tab.hold(name, share);
    const { known, presence, gap } = this.#channels.get(name) ?? { known: { channel: name, recoverable: share.recoverable, ...share.position } };
    const answer = { ...known };
    let recovered: Wire[] | string | undefined;
    try {
      if (message["recover"]) recovered = await this.#missed(client, answer, message["recover"] as Position);
    } catch (error) {
      if (tab.asked(name) === ask) void tab.release(name);
      this.#forget(name);
      throw error;
    }
    return {
      isTrue: () => tab.asked(name) === ask,
      data: { ...answer, ...(Array.isArray(recovered) ? { recovered: true } : recovered && { recovered: false, reason: recovered }) },
      follow: () => {
        const missed = Array.isArray(recovered) ? recovered : [];
        flow.release(gap ? [...missed, gap] : missed);
        if (presence && !isFirst) void this.#present(client, tab, name, presence);
      },
    };
  }

  /**
   * Adds a share to the worker's subscription. If it was refused with another page's token, this page's token
   * is tried.
   */
  async #share(client: Client, name: string, message: Wire): Promise<Subscribed> {
    const token = message["token"] as string | undefined;
    const getToken = () => {
      this.#shown.set(name, token as string);
      return token as string;
    };
    for (;;) {
      try {
        return await client.channel<object>(name as never).subscribe({
          ...(message["metadata"] != null && { metadata: message["metadata"] as never }),
          ...(token !== undefined && { getToken }),
        });
      } catch (error) {
        if (token === undefined || !(error instanceof ServerError) || this.#shown.get(name) === token) throw error;
      }
    }
  }

  /**
   * Returns the messages after a position up to the channel's current one, or the reason why they cannot be
   * loaded.
   */
  async #missed(client: Client, { channel, epoch, offset = 0, recoverable }: Known, since: Position): Promise<Wire[] | string | undefined> {
    if (!recoverable) return undefined;
    if (since.epoch !== epoch) return "epoch_changed";
    const found: Wire[] = [];
    try {
      for (let at = since.offset; at < offset; ) {
        const page = (await client.request("history", { channel, since: { epoch, offset: at } } as never)) as { messages: Wire[] };
        const last = page.messages.at(-1)?.["offset"];
        if (!(typeof last === "number" && last > at)) return "too_old";
        found.push(...page.messages.filter((message) => (message["offset"] as number) <= offset));
        at = last;
      }
    } catch (error) {
      const reason = error instanceof ServerError ? error.details["reason"] : undefined;
      if (typeof reason === "string") return reason;
      throw error;
    }
    return found;
  }

  /** Sends the members to a page that is not the first subscriber. The server has sent them to the first. */
  async #present(client: Client, tab: Tab, name: string, type: string): Promise<void> {
    const channel = client.channel<object>(name as never);
    if (type === "occupancy") return tab.pass(name, { type, channel: name, count: channel.presence.count });
    const flow = tab.flow(name);
    const release = tab.holdPresence(name);
    try {
      let list = (await client.request("presence", { channel: name } as never)) as { users: object; next?: string };
      const { users, ...first } = list;
      const all = { ...users };
      const count = () => Object.keys(all).length;
      // A page without a new user is the last one, even if it names another.
      for (let before = 0; list.next !== undefined && count() > before && tab.flow(name) === flow; ) {
        before = count();
        list = (await client.request("presence", { channel: name, after: list.next } as never)) as typeof list;
        Object.assign(all, list.users);
      }
      // Changes that arrived meanwhile follow, as the number of the first page tells.
      release({ type, ...first, channel: name, users: all });
    } catch (error) {
      release();
      const isRefused = error instanceof ServerError;
      const isLate = error instanceof HauynaError && error.kind === "timeout";
      // In other cases the connection is lost, and the page will ask again, or it may not see the members.
      if (!isLate && !(isRefused && error.temporary)) return;
      const again = () => void (flow !== undefined && tab.flow(name) === flow && this.#present(client, tab, name, type));
      this.#after(Math.max((isRefused && error.retryAfter) || 0, AGAIN), again);
    }
  }

  /**
   * Publishes without an echo for this page. The server echoes to the connection, because the browser's other
   * pages receive the message like any subscriber. The echo is recognised by its offset, and in channels
   * without offsets by its content.
   */
  async #publishQuietly(client: Client, tab: Tab, name: string, { echo: _, ...fields }: Record<string, unknown>): Promise<unknown> {
    const isNumbered = this.#channels.get(name)?.known.recoverable !== false;
    const flow = isNumbered ? tab.pause(name) : undefined;
    const takeBack = isNumbered ? () => {} : tab.leaveOut(name, fields["content"]);
    let own: Position | undefined;
    const text = JSON.stringify(fields["content"]);
    const isAlike = ({ type, user, content }: Wire) => type === "message" && user === client.user && JSON.stringify(content) === text;
    // A late answer must not hold up the channel.
    const cancel = flow && this.#after(ANSWER, () => flow.resume(isAlike));
    try {
      own = (await client.request("channel_message", fields as never, { timeout: MAX_TIMEOUT })) as Position | undefined;
      // The echo may still arrive. It never does if the publication was a repetition.
      this.#after(ECHO, takeBack);
      return own;
    } catch (error) {
      takeBack();
      throw error;
    } finally {
      cancel?.();
      flow?.resume((message) => own !== undefined && message["offset"] === own.offset);
    }
  }
}

/** Whether the answer was lost with a connection, even if another connection has replaced it. */
function isLoss(error: unknown): boolean {
  return error instanceof HauynaError && ["outcome_unknown", "not_connected", "closed", "gave_up"].includes(error.kind);
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
const OWN = new Set(["session", "ack", "pong", "retry_policy", "reconnect"]);
/**
 * Milliseconds to wait for an answer. Each page has its own timeout; this one only prevents that requests
 * stay forever.
 */
const MAX_TIMEOUT = 3_600_000;
/** Milliseconds that a channel's messages wait for the offset of a publication. */
const ANSWER = 2_000;
/** Milliseconds: the minimum delay before a request that failed temporarily is repeated. */
const AGAIN = 1_000;
const GIVEN_UP = "given up before the answer";
/** Milliseconds to wait for the echo of a publication after its answer. */
const ECHO = 10_000;
