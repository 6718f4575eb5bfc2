// What pages ask, and what they are told of channels. A page's subscription is a share of the worker's; what a page has
// missed comes from the server's history.

import { type Client, HauynaError, type Position, ServerError, type Subscribed } from "hauyna";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/** What the server has said about a channel. */
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
  /** How the server has told who is present: by `presence_state`, by `occupancy`, or not. */
  presence?: string;
  /** The latest gap since then: who knows the channel from here alone may miss something behind its position. */
  gap?: Wire | undefined;
  /** The application's server has subscribed the connection: every page is subscribed. */
  isServed: boolean;
}

/** An answer, and what comes right behind it. */
interface Done {
  readonly data?: unknown;
  /** Whether it is still true when it is told. */
  readonly isTrue?: () => boolean;
  readonly follow?: () => void;
}

/** The requests of the pages of one connection. */
export class Requests {
  readonly #tabs: ReadonlySet<Tab>;
  readonly #after: (delay: number, run: () => void) => () => void;
  readonly #channels = new Map<string, Entry>();
  /** The token that was shown last for each channel that takes one. */
  readonly #shown = new Map<string, string>();

  constructor(tabs: ReadonlySet<Tab>, after: (delay: number, run: () => void) => () => void) {
    this.#tabs = tabs;
    this.#after = after;
  }

  // What the server says

  /** Takes `session`. Returns whether something may be missing that pages cannot know of. */
  learn(session: Wire): boolean {
    const entries = (session["subscriptions"] as (Known & { recovered?: boolean })[] | undefined) ?? [];
    const there = new Set(session["resumed"] === true ? entries.map(({ channel }) => channel) : []);
    // The server may have ended some while nobody could be told.
    const ended = [...this.#channels].filter(([channel]) => !there.has(channel));
    for (const [, entry] of ended) entry.isServed = false;
    const isMissed = ended.filter(([channel]) => !this.#forget(channel)).length > 0;
    for (const entry of entries) this.#know(entry);
    return session["resumed"] !== true || isMissed || entries.some(({ recovered }) => recovered !== true);
  }

  /** Passes a message on to the pages that it concerns. */
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
    // To the user, about a channel that nobody here is subscribed to.
    if (!entry) return this.#tell(message);
    if (/^(presence_state|occupancy)$/.test(type)) entry.presence = type;
    if (type === "gap" && entry.known.recoverable && message["epoch"] != null) entry.gap = message;
    if (typeof message["offset"] === "number" && !/^(presence_|subscribed|gap)/.test(type)) entry.known.offset = message["offset"];
    for (const tab of this.#tabs) tab.pass(channel, message, client?.user);
  }

  /** Tells a page whose session has begun about the channels that the application's server has subscribed it to. */
  introduce(tab: Tab, client: Client | undefined): void {
    for (const [channel, { known, isServed, presence, gap }] of this.#channels) {
      if (!isServed) continue;
      tab.adopt(channel);
      tab.tell({ type: "subscribed", ...known });
      if (gap) tab.tell(gap);
      if (presence && client) void this.#present(client, tab, channel, presence);
    }
  }

  /** A page has gone, or has no socket: gives up what it has. */
  async leave(tab: Tab): Promise<void> {
    const { channels } = tab;
    await tab.release();
    for (const channel of channels) if (!this.#channels.get(channel)?.isServed) this.#forget(channel);
  }

  clear(): void {
    this.#channels.clear();
    this.#shown.clear();
  }

  /** Where nobody has the channel any more, nothing need be known of it. False where somebody has. */
  #forget(channel: string): boolean {
    if ([...this.#tabs].some((tab) => tab.has(channel) || tab.asked(channel))) return false;
    this.#channels.delete(channel);
    this.#shown.delete(channel);
    return true;
  }

  #ended(channel: string, message: Wire, client: Client | undefined): void {
    // What is being asked for is decided by the answer.
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

  // What pages ask

  /**
   * Answers a request of a page exactly once, unless its socket ends before. Returns whether the server's answer
   * was late.
   */
  async perform(client: Client, tab: Tab, message: Wire): Promise<boolean> {
    const { id } = message;
    const { socket } = tab;
    try {
      const { data, isTrue, follow } = await this.#done(client, tab, message);
      if (tab.socket !== socket) return false;
      // The server may have ended it meanwhile: the page asks again.
      if (isTrue?.() === false) throw new HauynaError("unsubscribed", GIVEN_UP);
      if (id !== undefined) tab.tell({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      // Where the connection is lost, so is the page's, and its client decides what to do.
      if (tab.socket !== socket) return isLate(error);
      if (isLoss(error)) {
        tab.end(LOST, "lost before the answer");
        tab.say({ say: "network", isThere: true });
      } else tab.tell({ type: "error", id, timestamp: Date.now(), ...refusalOf(error) });
      return isLate(error);
    }
    return false;
  }

  async #done(client: Client, tab: Tab, message: Wire): Promise<Done> {
    const name = String(message.channel);
    const { type, id: _, ...fields } = message;
    if (type === "subscribe_channel") return this.#subscribe(client, tab, name, message);
    if (type === "unsubscribe_channel") {
      await tab.release(name);
      const isServed = this.#channels.get(name)?.isServed;
      // The application's subscription has no shares with which it would end.
      if (this.#forget(name) && isServed) await client.channel<object>(name as never).unsubscribe();
      return {};
    }
    if (type === "channel_message" && message["echo"] === false) return { data: await this.#publishQuietly(client, tab, name, fields) };
    // By the worker's subscription, which says it again after a reconnect.
    if (type === "update_presence") return { data: await client.channel<object>(name as never).presence.update(message["metadata"] as never) };
    if (type !== "client_event") return { data: await client.request(type, fields as never, { timeout: MAX_TIMEOUT }) };
    const event = String(message["event"]);
    client.channel<object>(name as never).send(event, message["data"] as never);
    const taken = this.#channels.get(name)?.known.client_events as object | undefined;
    // The server leaves out this connection, and with it the other pages.
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

  /** A share of the worker's subscription. Where that was refused for another token, this page's is shown. */
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

  /** The messages after a position, up to where the channel stands; or why they are not to be had. */
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

  /** Tells a page who is present: the server has told so when the first one subscribed. */
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
      // A page without anybody new is the last one, whatever it says.
      for (let before = 0; list.next !== undefined && count() > before && tab.flow(name) === flow; ) {
        before = count();
        list = (await client.request("presence", { channel: name, after: list.next } as never)) as typeof list;
        Object.assign(all, list.users);
      }
      // What changed meanwhile comes behind it, by the first page's number.
      release({ type, ...first, channel: name, users: all });
    } catch (error) {
      release();
      const isRefused = error instanceof ServerError;
      // Else the connection is lost, and the page will ask again; or it may not see who is there.
      if (!isLate(error) && !(isRefused && error.temporary)) return;
      const again = () => void (flow !== undefined && tab.flow(name) === flow && this.#present(client, tab, name, type));
      this.#after(Math.max((isRefused && error.retryAfter) || 0, AGAIN), again);
    }
  }

  /**
   * Publishes without an echo for this page: other pages of this browser get it as others do, and so the connection does.
   * By its number it is known among the channel's messages; where there are none, by its content.
   */
  async #publishQuietly(client: Client, tab: Tab, name: string, { echo: _, ...fields }: Record<string, unknown>): Promise<unknown> {
    const isNumbered = this.#channels.get(name)?.known.recoverable !== false;
    const flow = isNumbered ? tab.pause(name) : undefined;
    const takeBack = isNumbered ? () => {} : tab.leaveOut(name, fields["content"]);
    let own: Position | undefined;
    const text = JSON.stringify(fields["content"]);
    const isAlike = ({ type, user, content }: Wire) => type === "message" && user === client.user && JSON.stringify(content) === text;
    // An answer that is late must not hold up the channel.
    const cancel = flow && this.#after(ANSWER, () => flow.resume(isAlike));
    try {
      own = (await client.request("channel_message", fields as never, { timeout: MAX_TIMEOUT })) as Position | undefined;
      // It may still come; or never, where the publication was a repeat.
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

/** Whether the answer was lost with a connection, also where another one has replaced it. */
function isLoss(error: unknown): boolean {
  return error instanceof HauynaError && ["outcome_unknown", "not_connected", "closed", "gave_up"].includes(error.kind);
}

/** Whether the answer did not come in time. */
function isLate(error: unknown): boolean {
  return error instanceof HauynaError && error.kind === "timeout";
}

/** What the fields of `error` say. */
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

/** Between the server and the worker's client alone. */
const OWN = new Set(["session", "ack", "pong", "retry_policy", "reconnect"]);
/** Milliseconds for an answer: a page knows itself how long it waits, and what nobody waits for must not stay for ever. */
const MAX_TIMEOUT = 3_600_000;
/** Milliseconds for which a channel's messages wait for the number of a publication. */
const ANSWER = 2_000;
/** Milliseconds, at least, before something is asked again that failed for now. */
const AGAIN = 1_000;
const GIVEN_UP = "given up before the answer";
/** Milliseconds for the echo of a publication, behind its answer. */
const ECHO = 10_000;
