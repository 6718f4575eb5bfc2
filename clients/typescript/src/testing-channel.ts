// One channel of a fake server: its history, its subscribers, its members, and the actions of other users.

import type { ErrorType, Position } from "hauyna";
import { settled } from "./testing-clock.js";
import type { FakeConnection, WireMessage } from "./testing-socket.js";

/** A message that was published in a channel of a fake server. */
export interface FakePublication<Content = unknown> {
  readonly type: string;
  readonly channel: string;
  readonly user?: string;
  readonly content: Content;
  readonly timestamp: number;
  readonly offset?: number;
}

/** A client event that a client has sent to a fake server. */
export interface FakeEvent {
  readonly type: string;
  readonly user: string;
  readonly data: unknown;
}

/** A member whom a test adds. */
export interface FakePerson {
  readonly status?: string | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
}

/** The options of a channel of a fake server. */
export interface FakeChannelOptions {
  /** How many publications the channel keeps; 0 for a channel without history. Default: 1,000. */
  readonly history?: number | undefined;
  /** Whether the channel has presence. Default: true. */
  readonly presence?: boolean | undefined;
  /** How many client events of each type the channel accepts in a second. Default: one of any type. */
  readonly clientEvents?: Readonly<Record<string, number>> | undefined;
}

/** A refusal, which handlers of requests throw and `refuse` takes. */
export class Refusal extends Error {
  readonly type: ErrorType;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(type: ErrorType = "permission_denied", message: string = type, details?: Readonly<Record<string, unknown>>) {
    super(message);
    this.name = "Refusal";
    this.type = type;
    this.details = details;
  }
}

interface MemberEntry {
  status: string;
  metadata: Readonly<Record<string, unknown>>;
  joined_at: number;
  updated_at: number;
  connections: { connection_id: string; metadata: unknown; joined_at: number }[];
}

/** The fields that answer every way of subscribing. */
export interface SubscriptionFields extends Record<string, unknown> {
  readonly channel: string;
  readonly recoverable: boolean;
}

/** One channel of a fake server. Methods that change it resolve when every client has been notified. */
export class FakeChannel<Content = unknown, Events = Record<string, unknown>> {
  readonly name: string;
  /** The publications that the history keeps, of clients and of others, oldest first. */
  readonly messages: FakePublication<Content>[] = [];
  /** The client events that clients have sent, oldest first. */
  readonly events: FakeEvent[] = [];
  readonly #options: FakeChannelOptions;
  readonly #now: () => number;
  readonly #subscriptions = new Map<FakeConnection, unknown>();
  readonly #members = new Map<string, MemberEntry>();
  readonly #keys: PublicationKeys;
  /** The session that published a message without an echo. A recovery does not send it the message either. */
  readonly #publisherWithoutEcho = new WeakMap<object, object>();
  /**
   * Called when the application ends subscriptions, of one user or of all. Sessions without a connection have
   * subscriptions as well.
   */
  readonly #onEnded: (user: string | undefined) => void;
  #epoch = "epoch-1";
  #epochCount = 1;
  #offset = 0;
  #changeCount = 0;

  constructor(name: string, options: FakeChannelOptions, now: () => number, ended: (user: string | undefined) => void) {
    this.name = name;
    this.#options = options;
    this.#now = now;
    this.#onEnded = ended;
    this.#keys = new PublicationKeys(now);
  }

  /** The users of the subscribed connections. */
  get subscribers(): readonly string[] {
    return [...this.#subscriptions.keys()].map(({ user }) => user);
  }

  /** The users who are present, whether the test or a client added them. */
  get present(): readonly string[] {
    return [...this.#members.keys()];
  }

  /** The position of the newest publication. */
  get position(): Position | undefined {
    return this.#historySize > 0 ? { epoch: this.#epoch, offset: this.#offset } : undefined;
  }

  /** Publishes as another user, or as the application without `user`. */
  async publish(content: Content, { user }: { user?: string | undefined } = {}): Promise<Position | undefined> {
    const position = this.put({ type: "message", ...(user !== undefined && { user }), content });
    await settled();
    return position;
  }

  /** Sends a message of one of the application's own types into the channel. */
  async tell(message: WireMessage): Promise<Position | undefined> {
    const position = this.put(message);
    await settled();
    return position;
  }

  /** Sends a client event as another user. */
  async send<Type extends keyof Events & string>(type: Type, data: Events[Type], user = "somebody"): Promise<void> {
    this.#sendToSubscribers({ type: "client_event", channel: this.name, event: type, user, data });
    await settled();
  }

  /** Adds another member, or changes one. */
  async join(user: string, { status = "online", metadata = {} }: FakePerson = {}): Promise<void> {
    const connection = { connection_id: `fake-${user}`, metadata: {}, joined_at: this.#now() };
    this.#setMember(user, connection, { ...metadata, status });
    await settled();
  }

  async leave(user: string): Promise<void> {
    this.#removeMember(user, `fake-${user}`);
    await settled();
  }

  /** Ends the subscriptions of clients, of one user or of all. */
  async unsubscribe(user?: string): Promise<void> {
    for (const connection of [...this.#subscriptions.keys()]) {
      if (user !== undefined && connection.user !== user) continue;
      this.remove(connection);
      connection.send({ type: "unsubscribed", channel: this.name });
    }
    this.#onEnded(user);
    await settled();
  }

  /** Clears the history, like a server that loses its memory: clients report a gap. */
  async forget(): Promise<void> {
    this.#epoch = `epoch-${++this.#epochCount}`;
    this.#offset = 0;
    this.messages.length = 0;
    this.#keys.clear();
    this.#sendToSubscribers({ type: "subscribed", ...this.#subscriptionFields(), recovered: false, reason: "epoch_changed" });
    await settled();
  }

  // Methods for the server

  /** Numbers a message, keeps it, and sends it to all connections except one. */
  put(fields: WireMessage, except?: FakeConnection): Position | undefined {
    const offset = this.#historySize > 0 ? { offset: ++this.#offset } : {};
    const message = { timestamp: this.#now(), ...fields, channel: this.name, ...offset };
    this.messages.push(message as unknown as FakePublication<Content>);
    if (this.messages.length > Math.max(this.#historySize, DEFAULT_HISTORY)) this.messages.shift();
    if (except?.session) this.#publisherWithoutEcho.set(message, except.session);
    this.#sendToSubscribers(message, except);
    return this.position;
  }

  /** Publishes a message of a client, once for each key. */
  take(connection: FakeConnection, { content, key, echo }: WireMessage): Position | undefined {
    const publish = () => this.put({ type: "message", user: connection.user, content }, echo === false ? connection : undefined);
    return this.#keys.runOnce(connection.user, key, publish);
  }

  event(connection: FakeConnection, { event, data }: WireMessage): void {
    const { clientEvents } = this.#options;
    if (clientEvents && !(String(event) in clientEvents)) throw new Refusal("permission_denied", `no client event ${String(event)} here`);
    this.events.push({ type: String(event), user: connection.user, data });
    this.#sendToSubscribers({ type: "client_event", channel: this.name, event, user: connection.user, data }, connection);
  }

  has(connection: FakeConnection): boolean {
    return this.#subscriptions.has(connection);
  }

  /**
   * Subscribes a connection, optionally in place of the one that had its session. Returns the answer, and a
   * function that sends what follows it.
   */
  add(
    connection: FakeConnection,
    metadata: unknown,
    recover: Position | undefined,
    before?: FakeConnection,
  ): { subscription: SubscriptionFields; follow: () => void } {
    if (before) this.#subscriptions.delete(before);
    this.#subscriptions.set(connection, metadata);
    const replay = recover && this.#missedMessages(recover, connection);
    const recovery = replay && (Array.isArray(replay) ? { recovered: true } : { recovered: false, reason: replay });
    const subscription = { ...this.#subscriptionFields(), ...recovery };
    const follow = () => {
      if (Array.isArray(replay)) for (const message of replay) connection.send(message);
      if (this.#options.presence === false) return;
      if (!before || !this.#moveMember(before, connection)) {
        const entry = { connection_id: connection.id, metadata: metadata ?? {}, joined_at: this.#now() };
        this.#setMember(connection.user, entry, undefined, connection);
      }
      connection.send({ type: "presence_state", ...this.roster() });
    };
    return { subscription, follow };
  }

  /** Ends a subscription. With `isAway` the session continues, and nobody sees that the user left. */
  remove(connection: FakeConnection, isAway = false): void {
    this.#subscriptions.delete(connection);
    if (!isAway) this.#removeMember(connection.user, connection.id);
  }

  /** Returns the answer to `presence`. */
  roster({ after, limit = MAX_PRESENCE_PAGE }: { readonly after?: string; readonly limit?: number } = {}): object {
    if (this.#options.presence === false) throw new Refusal("validation_error", "this channel shows no presence");
    const names = [...this.#members.keys()].sort().filter((name) => after === undefined || name > after);
    const page = names.slice(0, Math.min(limit, MAX_PRESENCE_PAGE));
    const users = Object.fromEntries(page.map((name) => [name, this.#members.get(name)]));
    const next = page.length < names.length ? page.at(-1) : undefined;
    return { channel: this.name, count: this.#members.size, users, offset: this.#changeCount, ...(next !== undefined && { next }) };
  }

  /** Replaces the metadata of a connection. */
  update(connection: FakeConnection, metadata: unknown): void {
    if (this.#options.presence === false) throw new Refusal("validation_error", "this channel shows no presence");
    const joined_at = this.#members.get(connection.user)?.connections.find((one) => one.connection_id === connection.id)?.joined_at;
    if (joined_at === undefined) throw new Refusal("not_subscribed", "not present");
    this.#subscriptions.set(connection, metadata);
    this.#setMember(connection.user, { connection_id: connection.id, metadata, joined_at });
  }

  /** Changes the metadata of a user. Returns whether the user is present. */
  describe(user: string, metadata: object): boolean {
    const entry = this.#members.get(user);
    if (entry) this.#setMember(user, undefined, { ...entry.metadata, ...metadata });
    return entry !== undefined;
  }

  history({ since, before, limit, reverse }: { since?: Position; before?: Position; limit?: number; reverse?: boolean }): object {
    if (this.#historySize === 0) throw new Refusal("validation_error", "this channel keeps no history");
    if (since && before) throw new Refusal("validation_error", "`since` and `before` exclude each other");
    const from = since ?? before;
    const isBackwards = before !== undefined || reverse === true;
    const lost = from && this.#lossReason(from, isBackwards);
    if (lost) throw new Refusal("validation_error", "the history does not reach back to `since`", { path: "since", reason: lost });
    const kept = this.#history;
    const selected = kept.filter(({ offset = 0 }) => !from || (isBackwards ? offset < from.offset : offset > from.offset));
    const messages = (isBackwards ? selected.reverse() : selected).slice(0, limit ?? HISTORY_PAGE);
    return { channel: this.name, ...this.position, oldest: kept[0]?.offset ?? this.#offset + 1, messages };
  }

  get #historySize(): number {
    return this.#options.history ?? DEFAULT_HISTORY;
  }

  #subscriptionFields(): SubscriptionFields {
    const { clientEvents } = this.#options;
    return { channel: this.name, ...this.position, recoverable: this.#historySize > 0, ...(clientEvents && { client_events: clientEvents }) };
  }

  get #history(): FakePublication<Content>[] {
    return this.messages.slice(-this.#historySize);
  }

  /** Returns why the publications after a position, or before it, are unknown. */
  #lossReason({ epoch, offset }: Position, isBackwards = false): string | undefined {
    if (epoch !== this.#epoch || offset > this.#offset + (isBackwards ? 1 : 0)) return "epoch_changed";
    return !isBackwards && offset + 1 < (this.#history[0]?.offset ?? this.#offset + 1) ? "too_old" : undefined;
  }

  /** Returns the publications after a position, or the reason why they are unknown. */
  #missedMessages(since: Position, { session }: FakeConnection): FakePublication<Content>[] | string | undefined {
    if (this.#historySize === 0) return undefined;
    const isPublisher = (message: object) => session !== undefined && this.#publisherWithoutEcho.get(message) === session;
    return this.#lossReason(since) ?? this.#history.filter((message) => (message.offset ?? 0) > since.offset && !isPublisher(message));
  }

  /**
   * Moves the place of a resumed session to its new connection, without notifying anybody. Returns whether
   * there was one.
   */
  #moveMember(before: FakeConnection, { id, user }: FakeConnection): boolean {
    const place = this.#members.get(user)?.connections.find(({ connection_id }) => connection_id === before.id);
    if (place) place.connection_id = id;
    return place !== undefined;
  }

  #setMember(user: string, connection: MemberEntry["connections"][number] | undefined, metadata?: object, except?: FakeConnection): void {
    const before = this.#members.get(user);
    const others = before?.connections.filter((one) => one.connection_id !== connection?.connection_id) ?? [];
    const fields = { status: "online", ...before?.metadata, ...metadata };
    const entry: MemberEntry = {
      status: fields.status,
      metadata: fields,
      joined_at: before?.joined_at ?? this.#now(),
      updated_at: this.#now(),
      connections: connection ? [...others, connection] : others,
    };
    this.#members.set(user, entry);
    this.#reportChange(before ? "update" : "join", user, entry, connection, except);
  }

  #removeMember(user: string, id: string): void {
    const entry = this.#members.get(user);
    const remaining = entry?.connections.filter((one) => one.connection_id !== id) ?? [];
    if (!entry || remaining.length === entry.connections.length) return;
    entry.connections = remaining;
    if (entry.connections.length === 0) this.#members.delete(user);
    this.#reportChange(entry.connections.length === 0 ? "leave" : "update", user, entry);
  }

  #reportChange(
    event: string,
    user: string,
    { status, metadata, connections }: MemberEntry,
    connection?: object,
    except?: FakeConnection,
  ): void {
    const timestamp = this.#now();
    const change = { event, user, channel: this.name, metadata, status, connections: connections.length, connection, timestamp };
    this.#sendToSubscribers({ type: "presence_change", ...change, offset: ++this.#changeCount }, except);
  }

  #sendToSubscribers(message: object, except?: FakeConnection): void {
    for (const connection of this.#subscriptions.keys()) if (connection !== except) connection.send(message);
  }
}

/** The results of requests with a key, which run once. */
export class PublicationKeys {
  readonly #now: () => number;
  readonly #results = new Map<string, { readonly result: Position | undefined; readonly until: number }>();

  constructor(now: () => number) {
    this.#now = now;
  }

  runOnce(user: string, key: unknown, run: () => Position | undefined): Position | undefined {
    if (key === undefined) return run();
    const name = JSON.stringify([user, key]);
    const known = this.#results.get(name);
    if (known && known.until > this.#now()) return known.result;
    const result = run();
    this.#results.set(name, { result, until: this.#now() + KEY_MEMORY });
    return result;
  }

  clear(): void {
    this.#results.clear();
  }
}

const DEFAULT_HISTORY = 1000;
/** The maximum number of users in one answer to `presence`. */
const MAX_PRESENCE_PAGE = 1000;
/** Milliseconds for which a key is remembered. */
const KEY_MEMORY = 5 * 60_000;
/** The number of messages in one answer to `history`, unless the client asks for fewer. */
const HISTORY_PAGE = 100;
