// A model of the server for random schedules: one channel with history, any number without, presence, client
// events, sessions, moves and restarts. The dice decide what it does, and when.

import type { ServerMessage } from "../src/protocol.js";
import { type Peer, World } from "./world.js";

/** Pseudo-random numbers that depend only on the seed. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed, 2_654_435_761) >>> 0;
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

export interface Entry {
  epoch: string;
  offset: number;
  content: string;
}

export interface Connection {
  peer: Peer;
  isOpen: boolean;
  isGreeted: boolean;
  isOver: boolean;
  read: number;
  out: (ServerMessage | number)[];
  token: string | undefined;
  isSubscribed: boolean;
  /** The channels without history. */
  sides: Set<string>;
  /** The connection's metadata in the room. */
  metadata: unknown;
}

/** One channel, its sessions and its connections. */
export class Model {
  readonly published: Entry[] = [];
  epochs = ["E0"];
  log: Entry[] = [];
  offset = 0;
  readonly keys = new Map<string, Entry>();
  readonly connections: Connection[] = [];
  readonly waiting = new Map<string, Pick<Connection, "isSubscribed" | "sides" | "metadata">>();
  /** The messages in channels without history. */
  readonly beside: string[] = [];
  /** The client events in their order, with their connection. */
  readonly events: { one: Connection; data: unknown }[] = [];
  besideKeys = new Set<string>();
  tokens = 0;
  isCalm = false;
  readonly world: World;
  readonly dice: Dice;
  readonly keep: number;

  constructor(world: World, dice: Dice) {
    this.world = world;
    this.dice = dice;
    this.keep = [1000, 1000, 5][dice.below(3)] as number;
  }

  get epoch(): string {
    return this.epochs.at(-1) as string;
  }

  /** Publishes a message. `except` does not receive it, like a client that publishes without an echo. */
  publish(content: string, key?: string, except?: Connection): Entry {
    const known = key === undefined ? undefined : this.keys.get(key);
    if (known) return known;
    const entry = { epoch: this.epoch, offset: ++this.offset, content };
    this.published.push(entry);
    this.log.push(entry);
    if (this.log.length > this.keep) this.log.shift();
    if (key !== undefined) this.keys.set(key, entry);
    for (const one of this.connections) if (one.isSubscribed && !one.isOver && one !== except) one.out.push(this.message(entry));
    return entry;
  }

  message({ offset, content }: Entry): ServerMessage {
    return { type: "message", channel: "room", content, timestamp: 1, offset };
  }

  /** Starts the streams again, or continues them under another epoch. */
  turn(how: "kept" | "lost" | "silent"): void {
    trace("TURN", how);
    const next = `E${this.published.length}-${this.dice.below(1e6)}`;
    if (how === "kept") this.epochs.push(next);
    else {
      this.epochs = [next];
      this.log = [];
      this.offset = 0;
    }
    if (how === "silent") return;
    const said = { type: "subscribed", ...this.standing(), recovered: how === "kept", ...(how === "lost" && { reason: "epoch_changed" }) };
    for (const one of this.connections) if (one.isSubscribed && !one.isOver) one.out.push(said);
  }

  standing(): { channel: string; epoch: string; offset: number; recoverable: boolean } {
    return { channel: "room", epoch: this.epoch, offset: this.offset, recoverable: true };
  }

  /** Subscribes, with a position or without. Returns the entry, and the messages that follow it. */
  subscribe(one: Connection, recover: { epoch: string; offset: number } | undefined, isResumed: boolean): [object, ServerMessage[]] {
    one.isSubscribed = true;
    const standing = this.standing();
    if (!recover) return [isResumed ? { ...standing, recovered: false, reason: "unknown_position" } : standing, []];
    if (!this.epochs.includes(recover.epoch) || recover.offset > this.offset) return [{ ...standing, recovered: false, reason: "epoch_changed" }, []];
    const missed = this.log.filter(({ offset }) => offset > recover.offset);
    if (missed.length < this.offset - recover.offset) return [{ ...standing, recovered: false, reason: "too_old" }, []];
    return [{ ...standing, recovered: true }, missed.map((entry) => this.message(entry))];
  }

  /** Takes one random step. */
  async step(): Promise<void> {
    const { dice, world } = this;
    for (const peer of world.sockets) {
      if (this.connections.some((one) => one.peer === peer)) continue;
      this.connections.push({ peer, isOpen: false, isGreeted: false, isOver: false, read: 0, out: [], token: undefined, isSubscribed: false, sides: new Set(), metadata: undefined });
    }
    for (const one of this.connections) {
      if (one.isOver) continue;
      if (!one.isOpen && !one.peer.closed) {
        if (!dice.chance(60)) continue;
        if (!this.isCalm && dice.chance(15)) {
          this.end(one, false);
          await one.peer.drop(1006);
          continue;
        }
        one.isOpen = true;
        await one.peer.open();
      }
      while (one.read < one.peer.heard.length && dice.chance(80)) this.hear(one, one.peer.heard[one.read++] as ServerMessage);
      const offered = one.peer.protocols.find((name) => name.startsWith("hauyna.resume."));
      if (one.isOpen && !one.isGreeted && !offered) this.greet(one, undefined, undefined);
      while (one.out.length > 0 && !one.peer.closed && dice.chance(75)) {
        const said = one.out.shift() as ServerMessage | number;
        if (typeof said === "number") {
          this.end(one, false);
          await one.peer.drop(said);
          break;
        }
        trace(`s${this.connections.indexOf(one)} <-`, said);
        await one.peer.say(said);
      }
      if (one.peer.closed && dice.chance(70)) this.end(one, one.peer.closed.code === 1000);
      if (!this.isCalm && dice.chance(2) && !one.peer.closed && one.isOpen) {
        trace(`s${this.connections.indexOf(one)} cut`);
        this.end(one, false);
        await one.peer.drop(dice.chance(70) ? 1006 : 3008);
      }
    }
    await world.pass(dice.below(40));
  }

  end(one: Connection, isForGood: boolean): void {
    one.isOver = true;
    const { isSubscribed, sides, metadata } = one;
    if (one.token !== undefined && !isForGood) this.waiting.set(one.token, { isSubscribed, sides, metadata });
    one.isSubscribed = false;
    one.sides = new Set();
  }

  greet(one: Connection, token: string | undefined, positions: Record<string, { epoch: string; offset: number }> | undefined): void {
    one.isGreeted = true;
    const owner = this.connections.find((other) => other !== one && !other.isOver && other.token !== undefined && other.token === token);
    const isKnown = !this.dice.chance(this.isCalm ? 0 : 20) && token !== undefined && (owner !== undefined || this.waiting.has(token));
    const earlier = owner ?? (token === undefined ? undefined : this.waiting.get(token));
    const wasSubscribed = earlier?.isSubscribed;
    one.token = `t${++this.tokens}`;
    const subscriptions: object[] = [];
    let replay: ServerMessage[] = [];
    if (isKnown) {
      one.sides = earlier?.sides ?? one.sides;
      one.metadata = earlier?.metadata;
      for (const channel of one.sides) subscriptions.push({ channel, recoverable: false });
      this.waiting.delete(token);
      if (owner) {
        owner.sides = new Set();
        owner.isSubscribed = false;
        owner.token = undefined;
        if (this.dice.chance(50)) owner.out = [];
        owner.out.push(3013);
      }
      if (wasSubscribed) {
        const [entry, missed] = this.subscribe(one, positions?.["room"], true);
        subscriptions.push(entry);
        replay = missed;
      }
    }
    one.out.push({ type: "session", connection_id: one.token, user: "ana", resumed: isKnown, resume: { token: one.token, window: 60_000 }, subscriptions }, ...replay);
  }

  hear(one: Connection, message: ServerMessage): void {
    const { id } = message;
    trace(`s${this.connections.indexOf(one)} ->`, message);
    const ack = (data?: unknown) => one.out.push({ type: "ack", id, data });
    const refuse = (error_type: string, fields: object) =>
      one.out.push({ type: "error", id, error_type, message: "", timestamp: 1, temporary: false, ...fields });
    switch (message.type) {
      case "resume": {
        const token = one.peer.protocols.find((name) => name.startsWith("hauyna.resume."))?.slice("hauyna.resume.".length);
        return this.greet(one, token, message["positions"] as never);
      }
      case "token":
        if (!this.isCalm && this.dice.chance(10)) return void refuse("unavailable", { temporary: true });
        return void ack({ token: "t" });
      case "client_event":
        return void this.events.push({ one, data: message["data"] });
      case "update_presence":
        if (!one.isSubscribed) return void refuse("not_subscribed", {});
        if (!this.isCalm && this.dice.chance(10)) return void refuse("unavailable", { temporary: true });
        one.metadata = message["metadata"];
        return void ack();
      case "subscribe_channel": {
        const name = message["channel"] as string;
        if (name !== "room") {
          if (one.sides.has(name)) return void refuse("already_subscribed", {});
          if (!this.isCalm && this.dice.chance(10)) return void refuse("rate_limited", { temporary: true, details: { retry_after: 100 } });
          one.sides.add(name);
          return void ack({ channel: name, recoverable: false });
        }
        if (one.isSubscribed) return void refuse("already_subscribed", {});
        if (!this.isCalm && this.dice.chance(10)) return void refuse("unavailable", { temporary: true });
        one.metadata = message["metadata"];
        const [entry, replay] = this.subscribe(one, message["recover"] as never, false);
        ack(entry);
        one.out.push(...replay);
        return;
      }
      case "unsubscribe_channel":
        if (message["channel"] !== "room") return one.sides.delete(message["channel"] as string) ? void ack() : void refuse("not_subscribed", {});
        one.isSubscribed = false;
        return void ack();
      case "channel_message": {
        if (message["channel"] !== "room") {
          if (!one.sides.has(message["channel"] as string)) return void refuse("not_subscribed", {});
          const key = message["key"] as string;
          if (!this.besideKeys.has(key)) this.beside.push(message["content"] as string);
          this.besideKeys.add(key);
          return void ack();
        }
        if (!one.isSubscribed) return void refuse("not_subscribed", {});
        // The server behaves like a broker that remembers keys for longer than its streams.
        const isOld = this.keys.get(message["key"] as string)?.epoch;
        if (isOld !== undefined && !this.epochs.includes(isOld)) return void refuse("timeout", { temporary: true });
        const except = message["echo"] === false ? one : undefined;
        const { epoch, offset } = this.publish(message["content"] as string, message["key"] as string, except);
        return void ack({ epoch, offset });
      }
      case "history": {
        if (!message["since"]) return this.older(message, ack, refuse);
        const since = message["since"] as { epoch: string; offset: number };
        if (!this.isCalm && this.dice.chance(15)) return void refuse("rate_limited", { temporary: true, details: { retry_after: 100 } });
        const fault = (reason: string) => refuse("validation_error", { details: { path: "since", reason } });
        if (!this.epochs.includes(since.epoch) || since.offset > this.offset) return void fault("epoch_changed");
        const missed = this.log.filter(({ offset }) => offset > since.offset);
        if (missed.length < this.offset - since.offset) return void fault("too_old");
        const messages = missed.slice(0, 3).map((entry) => this.message(entry));
        return void ack({ channel: "room", epoch: this.epoch, offset: this.offset, oldest: this.offset - this.log.length + 1, messages });
      }
      case "ping":
        one.out.push({ type: "pong", id });
    }
  }

  /** Answers with a page of the history, newest first. */
  older({ before, limit }: ServerMessage, ack: (data: unknown) => void, refuse: (type: string, fields: object) => void): void {
    const at = before as { epoch: string; offset: number } | undefined;
    if (at && !this.epochs.includes(at.epoch)) return refuse("validation_error", { details: { path: "before", reason: "epoch_changed" } });
    if (!this.isCalm && this.dice.chance(10)) return refuse("rate_limited", { temporary: true, details: { retry_after: 100 } });
    const messages = this.log.filter(({ offset }) => offset < (at?.offset ?? Infinity)).slice(-(limit as number)).reverse();
    const oldest = this.offset - this.log.length + 1;
    ack({ channel: "room", epoch: this.epoch, offset: this.offset, oldest, messages: messages.map((entry) => this.message(entry)) });
  }

  /**
   * Subscribes a connection to a channel without history, or ends its subscription, as the server's
   * application does.
   */
  decide(channel: string): void {
    const one = this.connections.findLast(({ isOver, isGreeted }) => !isOver && isGreeted);
    if (!one) return;
    const has = channel === "room" ? one.isSubscribed : one.sides.has(channel);
    if (has) {
      if (channel === "room") one.isSubscribed = false;
      else one.sides.delete(channel);
      one.out.push({ type: "unsubscribed", channel });
    } else if (channel !== "room") {
      one.sides.add(channel);
      one.out.push({ type: "subscribed", channel, recoverable: false });
    }
  }

  /** Restarts the server: all sessions and streams are lost. */
  async restart(): Promise<void> {
    for (const one of this.connections.filter(({ isOver }) => !isOver)) {
      this.end(one, true);
      if (one.isOpen && !one.peer.closed) await one.peer.drop(1006);
    }
    this.waiting.clear();
    this.keys.clear();
    this.besideKeys.clear();
    this.turn("lost");
  }

  /** Drops some of the messages that wait for a connection, as for a slow consumer. */
  drop(): void {
    const one = this.connections.find(({ isOver, out }) => !isOver && out.some((said) => isPublication(said)));
    if (!one) return;
    const from = one.out.findIndex((said) => isPublication(said));
    let to = from;
    while (isPublication(one.out[to]) && to - from < 4) to++;
    const first = one.out[from] as ServerMessage;
    // The gap names the epoch of the moment of sending. The model drops nothing if the epoch has changed in
    // between.
    if (one.out.some((said) => typeof said !== "number" && (said.type === "subscribed" || said.type === "session"))) return;
    const entry = this.published.findLast(({ content }) => content === first["content"]);
    if (!entry || entry.epoch !== this.epoch) return;
    const gap = { type: "gap", channel: "room", epoch: this.epoch, offset: (first["offset"] as number) - 1, missed: to - from };
    one.out.splice(from, to - from, gap);
  }
}

function isPublication(said: ServerMessage | number | undefined): boolean {
  return typeof said === "object" && said.type === "message";
}

/** Prints the events of a repeated schedule. */
export const trace = (...what: unknown[]) => process.env["HAUYNA_SEED"] && console.log(...what.map((one) => (typeof one === "string" ? one : JSON.stringify(one))));
