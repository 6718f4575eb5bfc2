// The members of one channel: the roster, ordered by the numbers of its changes, and its events. A new list
// is compared with the old one, so that a reconnect reports only users who really joined or left.

import { bindMembers } from "./bind-members.js";
import { type DeviceMessage, deviceOf } from "./conversions.js";
import type { Listeners, Unsubscribe } from "./listeners.js";
import type { ServerMessage } from "./protocol.js";

/** One connection of a member. */
export interface Device {
  readonly connectionId: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly joinedAt: number;
}

/** A user who is present. */
export interface Member {
  readonly user: string;
  /** `online`, `away`, `offline`, or a word of the application. */
  readonly status: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** How many connections of the user are subscribed to the channel. */
  readonly connections: number;
  /** Those connections, if the server has listed them since their last change. */
  readonly devices?: readonly Device[];
}

/** The events of a roster. `change` follows after every change, as the last event. */
export interface PresenceEvents {
  join: Member;
  leave: Member;
  update: Member;
  change: Presence;
}

/** The members of a channel that has presence. */
export interface Presence {
  /**
   * The members by user, in no order. Empty if the channel has become too large for a list, see {@link
   * isListed}. The map is immutable: a change creates another one.
   */
  readonly users: ReadonlyMap<string, Member>;
  /** The number of users that are present, whether they are listed or not. */
  readonly count: number;
  /** Whether the members are known, and not only their number. */
  readonly isListed: boolean;
  /** Requests the list again, for example to learn the `devices` of a member. It needs a subscription. */
  refresh(): Promise<void>;
  /**
   * Replaces the metadata of this connection in this channel, also for later subscriptions of the same user.
   */
  update(metadata: Readonly<Record<string, unknown>>): Promise<void>;
  /** Calls `listener` for the event, until the returned function is called. */
  on<E extends keyof PresenceEvents>(event: E, listener: (value: PresenceEvents[E]) => void): Unsubscribe;
}

/** The answer to `presence`: one page of the list. */
interface Page {
  readonly users: Readonly<Record<string, Entry>>;
  readonly count: number;
  readonly offset: number;
  readonly next?: string;
}

/** The complete list. */
interface List {
  readonly users: Map<string, Member>;
  readonly count: number;
  readonly offset: number;
}

interface Entry {
  readonly status: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly connections: readonly DeviceMessage[];
}

/** The parts of the channel that a roster uses. */
interface RosterHost {
  /** Requests the page of the list that follows a user. */
  ask(after: string | undefined): Promise<unknown>;
  /** Sends the metadata of this connection to the server. */
  update(metadata: Readonly<Record<string, unknown>>): Promise<void>;
}

/** The roster of one channel. */
export class Roster implements Presence {
  /** Prevents Vue from making a reactive proxy of this object. */
  readonly __v_skip = true;
  #users = new Map<string, Member>();
  /**
   * The events that were not emitted yet. They are collected, so that a listener sees all parts of one
   * change.
   */
  #pendingEvents: [keyof PresenceEvents, unknown][] = [];
  /** The map that was returned since the last change. */
  #snapshot: ReadonlyMap<string, Member> | undefined;
  count = 0;
  isListed = false;
  readonly #listeners: Listeners;
  readonly #host: RosterHost;
  #offset = 0;
  /** The changes that arrive during the request of the list. */
  #heldChanges: ServerMessage[] | undefined;

  constructor(listeners: Listeners, host: RosterHost) {
    bindMembers(this);
    this.#listeners = listeners;
    this.#host = host;
  }

  get users(): ReadonlyMap<string, Member> {
    return (this.#snapshot ??= new Map(this.#users));
  }

  update(metadata: Readonly<Record<string, unknown>>): Promise<void> {
    return this.#host.update(metadata);
  }

  on<E extends keyof PresenceEvents>(event: E, listener: (value: PresenceEvents[E]) => void): Unsubscribe {
    return this.#listeners.add(`presence ${event}`, listener as (value: never) => void);
  }

  /** Handles a message about presence. */
  receive(message: ServerMessage): void {
    switch (message.type) {
      case "presence_state":
        this.#heldChanges = undefined;
        return this.#replaceList(readList(message as unknown as Page));
      case "occupancy":
        this.clear(message["count"] as number);
        return this.#emitEvents();
    }
    if (!this.isListed) return;
    if (this.#heldChanges) this.#holdChange(message, this.#heldChanges);
    else this.#applyChange(message);
  }

  /** Forgets the members except for their number, without an event. */
  clear(count = 0): void {
    this.#heldChanges = undefined;
    this.#users = new Map();
    this.#pendingEvents = [];
    this.#snapshot = undefined;
    this.isListed = false;
    this.count = count;
  }

  /** Requests the list again, because a change may be missing. */
  async refresh(): Promise<void> {
    if (!this.isListed || this.#heldChanges) return;
    const held: ServerMessage[] = [];
    this.#heldChanges = held;
    const pages = await this.#requestPages(held).catch(() => undefined);
    // The server has sent a newer list meanwhile.
    if (this.#heldChanges !== held) return;
    this.#heldChanges = undefined;
    try {
      if (pages) this.#replaceList(pages);
      for (const message of held) this.#applyChange(message);
    } catch {
      // The message violates PROTOCOL.md. The number of the next change reveals what is missing.
    }
  }

  async #requestPages(held: ServerMessage[]): Promise<List> {
    const first = (await this.#host.ask(undefined)) as Page;
    const users = readList(first).users;
    let { next } = first;
    // A page without a new user is the last one, even if it names another.
    for (let previousSize = 0; next !== undefined && users.size > previousSize && this.#heldChanges === held; ) {
      previousSize = users.size;
      const page = (await this.#host.ask(next)) as Page;
      for (const [user, member] of readList(page).users) users.set(user, member);
      next = page.next;
    }
    // The held messages contain the changes between the pages, as the number of the first page tells.
    return { ...first, users };
  }

  #holdChange(message: ServerMessage, held: ServerMessage[]): void {
    if (held.length < MAX_HELD) held.push(message);
    else this.#heldChanges = undefined; // the answer will be too old, and the next skipped number starts another request
  }

  #applyChange(message: ServerMessage): void {
    const offset = message["offset"] as number;
    if (!this.isListed || offset <= this.#offset) return;
    if (message.type === "presence_diff") this.#applyDiff(message as unknown as Diff);
    else if (offset > this.#offset + 1) return void this.refresh();
    else this.#applyMemberChange(message as unknown as Change);
    this.#offset = offset;
    this.#emitEvents();
    if (this.#users.size !== this.count) void this.refresh();
  }

  #applyMemberChange(change: Change): void {
    const { event, user, status, metadata, connections } = change;
    const connection = change.connection && deviceOf(change.connection);
    const others = this.#users.get(user)?.devices?.filter((device) => device.connectionId !== connection?.connectionId) ?? [];
    const devices = others.concat(connection ?? []);
    // A change may leave out the connection that has left, and state only how many there are now.
    const known = devices.length === connections ? { devices } : others.length === connections ? { devices: others } : {};
    if (event === "leave") this.#removeMember(user);
    else this.#setMember({ user, status, metadata, connections, ...known });
    this.count = this.#users.size;
  }

  #applyDiff({ joins, updates, leaves, count }: Diff): void {
    for (const user of leaves) this.#removeMember(user);
    for (const [user, entry] of Object.entries({ ...joins, ...updates })) this.#setMember(memberOf(user, entry));
    this.count = count;
  }

  #replaceList({ users, count, offset }: List): void {
    this.#offset = offset;
    this.count = count;
    this.isListed = true;
    for (const user of [...this.#users.keys()]) {
      if (!users.has(user)) this.#removeMember(user);
    }
    for (const member of users.values()) this.#setMember(member);
    this.#emitEvents();
  }

  #setMember(member: Member): void {
    const before = this.#users.get(member.user);
    this.#users.set(member.user, member);
    this.#snapshot = undefined;
    if (!before) this.#pendingEvents.push(["join", member]);
    else if (!isSame(before, member)) this.#pendingEvents.push(["update", member]);
  }

  #removeMember(user: string): void {
    const member = this.#users.get(user);
    this.#snapshot = undefined;
    if (this.#users.delete(user)) this.#pendingEvents.push(["leave", member]);
  }

  #emitEvents(): void {
    const users = this.#users;
    for (const [event, value] of [...this.#pendingEvents.splice(0), ["change", this]]) {
      this.#listeners.emit(`presence ${event}`, value, () => users === this.#users);
    }
  }
}

interface Change {
  readonly event: "join" | "leave" | "update";
  readonly user: string;
  readonly status: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly connections: number;
  /** The connection that has changed. */
  readonly connection?: DeviceMessage;
}

interface Diff {
  readonly joins: Readonly<Record<string, Entry>>;
  readonly leaves: readonly string[];
  readonly updates: Readonly<Record<string, Entry>>;
  readonly count: number;
}

/** Reads a list, and throws before any change if it is invalid. */
function readList({ users, count, offset }: Page): List {
  return { users: new Map(Object.entries(users).map(([user, entry]) => [user, memberOf(user, entry)])), count, offset };
}

function memberOf(user: string, { status, metadata, connections }: Entry): Member {
  return { user, status, metadata, connections: connections.length, devices: connections.map(deviceOf) };
}

/**
 * Whether status, metadata and number of connections are the same. The connections themselves change with
 * every reconnect.
 */
function isSame(one: Member, other: Member): boolean {
  const seen = ({ status, metadata, connections }: Member) => JSON.stringify([status, metadata, connections]);
  return seen(one) === seen(other);
}

/** The maximum number of changes that are held during the request of a list. */
const MAX_HELD = 10_000;
