// Who is present in one channel: the roster, kept by its own numbers, and what changes in it. A new list is compared
// with the old one, so that a reconnect reports only who really came or went.

import { bindMembers } from "./bind.js";
import { type DeviceMessage, deviceOf } from "./face.js";
import type { Listeners, Unsubscribe } from "./listeners.js";
import type { ServerMessage } from "./protocol.js";

/** One connection of somebody who is present. */
export interface Device {
  readonly connectionId: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly joinedAt: number;
}

/** Somebody who is present. */
export interface Member {
  readonly user: string;
  /** `online`, `away`, `offline`, or a word of the application's. */
  readonly status: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** How many connections they have to the channel. */
  readonly connections: number;
  /** Those connections, as far as the server has listed them since they last changed. */
  readonly devices?: readonly Device[];
}

/** What may be heard of a roster. `change` is any change, and comes last. */
export interface PresenceEvents {
  join: Member;
  leave: Member;
  update: Member;
  change: Presence;
}

/** Who is present in a channel that shows it. */
export interface Presence {
  /**
   * By user, in no order. Empty where the channel has grown too large for a list, see {@link isListed}. A map never
   * changes: after a change there is another one.
   */
  readonly users: ReadonlyMap<string, Member>;
  /** How many users are present, listed or not. */
  readonly count: number;
  /** The users are known, and not only their number. */
  readonly isListed: boolean;
  /** Asks for the list again, as where somebody's `devices` are not known. Needs a subscription. */
  refresh(): Promise<void>;
  /** Replaces what this connection says about itself in this channel, and will say when the same user is subscribed again. */
  update(metadata: Readonly<Record<string, unknown>>): Promise<void>;
  /** Listens, until the returned function is called. */
  on<E extends keyof PresenceEvents>(event: E, listener: (value: PresenceEvents[E]) => void): Unsubscribe;
}

/** What `presence` answers: one page of the list. */
interface Page {
  readonly users: Readonly<Record<string, Entry>>;
  readonly count: number;
  readonly offset: number;
  readonly next?: string;
}

/** The whole of it. */
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

/** What a roster needs of its channel. */
interface RosterHost {
  /** Asks for one page of the list, after a user. */
  ask(after: string | undefined): Promise<unknown>;
  /** Tells the server what this connection says about itself. */
  update(metadata: Readonly<Record<string, unknown>>): Promise<void>;
}

/** The roster of one channel. */
export class Roster implements Presence {
  /** As the client's. */
  readonly __v_skip = true;
  #users = new Map<string, Member>();
  /** What has changed, and was not told yet: who is told of one change sees all that belong to it. */
  #news: [keyof PresenceEvents, unknown][] = [];
  /** What was given out since the last change. */
  #snapshot: ReadonlyMap<string, Member> | undefined;
  count = 0;
  isListed = false;
  readonly #listeners: Listeners;
  readonly #host: RosterHost;
  #offset = 0;
  /** Changes that came while the list is being asked for. */
  #kept: ServerMessage[] | undefined;

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

  /** Takes a message about presence. */
  receive(message: ServerMessage): void {
    switch (message.type) {
      case "presence_state":
        this.#kept = undefined;
        return this.#replace(read(message as unknown as Page));
      case "occupancy":
        this.clear(message["count"] as number);
        return this.#tell();
    }
    if (!this.isListed) return;
    if (this.#kept) this.#keep(message, this.#kept);
    else this.#apply(message);
  }

  /** Nobody is known any more but for their number, and nobody is told. */
  clear(count = 0): void {
    this.#kept = undefined;
    this.#users = new Map();
    this.#news = [];
    this.#snapshot = undefined;
    this.isListed = false;
    this.count = count;
  }

  /** Asks for the list again, for something may have been missed. */
  async refresh(): Promise<void> {
    if (!this.isListed || this.#kept) return;
    const kept: ServerMessage[] = [];
    this.#kept = kept;
    const pages = await this.#pages(kept).catch(() => undefined);
    // A list that the server sent meanwhile is newer.
    if (this.#kept !== kept) return;
    this.#kept = undefined;
    try {
      if (pages) this.#replace(pages);
      for (const message of kept) this.#apply(message);
    } catch {
      // Not what PROTOCOL.md says: the next number shows what is missing.
    }
  }

  async #pages(kept: ServerMessage[]): Promise<List> {
    const first = (await this.#host.ask(undefined)) as Page;
    const users = read(first).users;
    let { next } = first;
    // A page without anybody new is the last one, whatever it says.
    for (let before = 0; next !== undefined && users.size > before && this.#kept === kept; ) {
      before = users.size;
      const page = (await this.#host.ask(next)) as Page;
      for (const [user, one] of read(page).users) users.set(user, one);
      next = page.next;
    }
    // What changed between the pages is among what was kept, by the first page's number.
    return { ...first, users };
  }

  #keep(message: ServerMessage, kept: ServerMessage[]): void {
    if (kept.length < KEPT) kept.push(message);
    else this.#kept = undefined; // the answer will be too old: the next skipped number asks again
  }

  #apply(message: ServerMessage): void {
    const offset = message["offset"] as number;
    if (!this.isListed || offset <= this.#offset) return;
    if (message.type === "presence_diff") this.#diff(message as unknown as Diff);
    else if (offset > this.#offset + 1) return void this.refresh();
    else this.#change(message as unknown as Change);
    this.#offset = offset;
    this.#tell();
    if (this.#users.size !== this.count) void this.refresh();
  }

  #change(change: Change): void {
    const { event, user, status, metadata, connections } = change;
    const connection = change.connection && deviceOf(change.connection);
    const others = this.#users.get(user)?.devices?.filter((device) => device.connectionId !== connection?.connectionId) ?? [];
    const devices = others.concat(connection ?? []);
    // Of a connection that has left, a change may say nothing but how many there are now.
    const known = devices.length === connections ? { devices } : others.length === connections ? { devices: others } : {};
    if (event === "leave") this.#leave(user);
    else this.#set({ user, status, metadata, connections, ...known });
    this.count = this.#users.size;
  }

  #diff({ joins, updates, leaves, count }: Diff): void {
    for (const user of leaves) this.#leave(user);
    for (const [user, entry] of Object.entries({ ...joins, ...updates })) this.#set(present(user, entry));
    this.count = count;
  }

  #replace({ users, count, offset }: List): void {
    this.#offset = offset;
    this.count = count;
    this.isListed = true;
    for (const user of [...this.#users.keys()]) {
      if (!users.has(user)) this.#leave(user);
    }
    for (const present of users.values()) this.#set(present);
    this.#tell();
  }

  #set(now: Member): void {
    const before = this.#users.get(now.user);
    this.#users.set(now.user, now);
    this.#snapshot = undefined;
    if (!before) this.#news.push(["join", now]);
    else if (!isSame(before, now)) this.#news.push(["update", now]);
  }

  #leave(user: string): void {
    const gone = this.#users.get(user);
    this.#snapshot = undefined;
    if (this.#users.delete(user)) this.#news.push(["leave", gone]);
  }

  #tell(): void {
    const users = this.#users;
    for (const [event, value] of [...this.#news.splice(0), ["change", this]]) {
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

/** A list as it was said, checked before anything is done with it. */
function read({ users, count, offset }: Page): List {
  return { users: new Map(Object.entries(users).map(([user, entry]) => [user, present(user, entry)])), count, offset };
}

function present(user: string, { status, metadata, connections }: Entry): Member {
  return { user, status, metadata, connections: connections.length, devices: connections.map(deviceOf) };
}

/** Whether nothing that can be seen has changed: not which connections they are, for those change with a reconnect. */
function isSame(one: Member, other: Member): boolean {
  const seen = ({ status, metadata, connections }: Member) => JSON.stringify([status, metadata, connections]);
  return seen(one) === seen(other);
}

/** Changes that are kept while a list is asked for. */
const KEPT = 10_000;
