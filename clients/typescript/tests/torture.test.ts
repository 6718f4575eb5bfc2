// Any order of losses, moves, gaps and new epochs, drawn from a seed, against a model of the server: every publication
// comes once and in order, or a gap is told, and what was acknowledged is published once.

import { expect, test } from "vitest";
import { type Client, HauynaError } from "../src/index.js";
import type { ServerMessage } from "../src/protocol.js";
import { type Peer, World, settle } from "./world.js";

/** Numbers that look random, and are the same in every run. */
class Dice {
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

interface Entry {
  epoch: string;
  offset: number;
  content: string;
}

interface Connection {
  peer: Peer;
  isOpen: boolean;
  isGreeted: boolean;
  isOver: boolean;
  read: number;
  out: (ServerMessage | number)[];
  token: string | undefined;
  isSubscribed: boolean;
}

/** One channel, its sessions and its connections. */
class Model {
  readonly published: Entry[] = [];
  epochs = ["E0"];
  log: Entry[] = [];
  offset = 0;
  readonly keys = new Map<string, Entry>();
  readonly connections: Connection[] = [];
  readonly waiting = new Map<string, boolean>();
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

  /** `except` does not get it, as one that publishes without an echo. */
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

  /** The streams begin anew, or go on under another epoch. */
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

  /** Subscribes, from a position or not; gives the entry, and what follows it. */
  subscribe(one: Connection, recover: { epoch: string; offset: number } | undefined, isResumed: boolean): [object, ServerMessage[]] {
    one.isSubscribed = true;
    const standing = this.standing();
    if (!recover) return [isResumed ? { ...standing, recovered: false, reason: "unknown_position" } : standing, []];
    if (!this.epochs.includes(recover.epoch) || recover.offset > this.offset) return [{ ...standing, recovered: false, reason: "epoch_changed" }, []];
    const missed = this.log.filter(({ offset }) => offset > recover.offset);
    if (missed.length < this.offset - recover.offset) return [{ ...standing, recovered: false, reason: "too_old" }, []];
    return [{ ...standing, recovered: true }, missed.map((entry) => this.message(entry))];
  }

  /** Takes one step with everything that may happen. */
  async step(): Promise<void> {
    const { dice, world } = this;
    for (const peer of world.sockets) {
      if (this.connections.some((one) => one.peer === peer)) continue;
      this.connections.push({ peer, isOpen: false, isGreeted: false, isOver: false, read: 0, out: [], token: undefined, isSubscribed: false });
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
    if (one.token !== undefined && !isForGood) this.waiting.set(one.token, one.isSubscribed);
    one.isSubscribed = false;
  }

  greet(one: Connection, token: string | undefined, positions: Record<string, { epoch: string; offset: number }> | undefined): void {
    one.isGreeted = true;
    const owner = this.connections.find((other) => other !== one && !other.isOver && other.token !== undefined && other.token === token);
    const isKnown = !this.dice.chance(this.isCalm ? 0 : 20) && token !== undefined && (owner !== undefined || this.waiting.has(token));
    const wasSubscribed = owner?.isSubscribed ?? (token !== undefined && this.waiting.get(token));
    one.token = `t${++this.tokens}`;
    const subscriptions: object[] = [];
    let replay: ServerMessage[] = [];
    if (isKnown) {
      this.waiting.delete(token);
      if (owner) {
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
      case "subscribe_channel": {
        if (one.isSubscribed) return void refuse("already_subscribed", {});
        if (!this.isCalm && this.dice.chance(10)) return void refuse("unavailable", { temporary: true });
        const [entry, replay] = this.subscribe(one, message["recover"] as never, false);
        ack(entry);
        one.out.push(...replay);
        return;
      }
      case "unsubscribe_channel":
        one.isSubscribed = false;
        return void ack();
      case "channel_message": {
        if (!one.isSubscribed) return void refuse("not_subscribed", {});
        // As a broker that remembers keys for longer than its streams.
        const isOld = this.keys.get(message["key"] as string)?.epoch;
        if (isOld !== undefined && !this.epochs.includes(isOld)) return void refuse("timeout", { temporary: true });
        const except = message["echo"] === false ? one : undefined;
        const { epoch, offset } = this.publish(message["content"] as string, message["key"] as string, except);
        return void ack({ epoch, offset });
      }
      case "history": {
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

  /** Drops some of what waits for a connection, as for a slow consumer. */
  drop(): void {
    const one = this.connections.find(({ isOver, out }) => !isOver && out.some((said) => isPublication(said)));
    if (!one) return;
    const from = one.out.findIndex((said) => isPublication(said));
    let to = from;
    while (isPublication(one.out[to]) && to - from < 4) to++;
    const first = one.out[from] as ServerMessage;
    // The epoch of the moment in which it was sent: no turn stands between, or the model does not drop.
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

/** Published without an echo: its client has it, and may get it again from the history. */
const QUIET = " without echo";
const isQuiet = (content: string) => content.endsWith(QUIET);

interface Told {
  content?: string;
  gap?: string;
}

/** Shows what happens in a schedule that is repeated. */
const trace = (...what: unknown[]) => process.env["HAUYNA_SEED"] && console.log(...what.map((one) => (typeof one === "string" ? one : JSON.stringify(one))));

async function run(seed: number): Promise<string[]> {
  const dice = new Dice(seed);
  const world = new World();
  const model = new Model(world, dice);
  const client: Client = world.client({ timeout: 3000, retry: { baseDelay: 50, maxDelay: 200, backoffMultiplier: 2 } });
  const room = client.channel("room");
  const told: Told[] = [];
  const outcomes = new Map<string, string>();
  room.on("message", ({ content }) => {
    told.push({ content: content as string });
    trace("  TOLD", content);
    if (dice.chance(1)) client.reconnect();
  });
  room.onGap((gap) => (told.push({ gap: JSON.stringify(gap) }), trace("  GAP", gap)));
  void client.connect().catch(() => {});
  let isIn = false;
  let startsAt = 0;
  void room.subscribe().then(({ position }) => {
    isIn = true;
    startsAt = model.published.findLastIndex(({ epoch, offset }) => epoch === position?.epoch && offset <= position.offset) + 1;
    if (startsAt === 0) startsAt = model.published.findIndex(({ epoch }) => epoch === position?.epoch);
    if (startsAt < 0) startsAt = model.published.length;
  });
  const publish = (content: string) =>
    void room.publish(content, { echo: !isQuiet(content) }).then(
      () => outcomes.set(content, "published"),
      (error: unknown) => outcomes.set(content, error instanceof HauynaError ? error.kind : String(error)),
    );
  // Components that come and go while the first one stays.
  const share = () => {
    const controller = new AbortController();
    room.subscribe({ signal: controller.signal }).catch(() => {});
    world.after(dice.below(200), () => controller.abort());
  };
  let own = 0;
  for (let n = 0; n < 220; n++) {
    await model.step();
    if (dice.chance(25)) model.publish(`other ${n}`);
    if (isIn && dice.chance(15)) publish(`own ${own++}${dice.chance(30) ? QUIET : ""}`);
    if (isIn && dice.chance(5)) share();
    if (dice.chance(4)) model.drop();
    if (dice.chance(1)) {
      const how = (["kept", "lost", "silent"] as const)[dice.below(3)] as "kept";
      model.turn(how);
    }
    if (dice.chance(3)) {
      const one = model.connections.findLast(({ isOver, isGreeted }) => !isOver && isGreeted);
      one?.out.push({ type: "reconnect", after: [0, dice.below(300)], reason: "drain" });
    }
  }
  model.isCalm = true;
  for (let n = 0; n < 300; n++) await model.step();
  await world.pass(5000);
  for (let n = 0; n < 100; n++) await model.step();
  model.publish("mark");
  for (let n = 0; n < 200; n++) await model.step();
  client.close();
  await settle();
  return judge(model, told, outcomes, startsAt);
}

function judge({ published }: Model, told: Told[], outcomes: Map<string, string>, startsAt: number): string[] {
  const faults: string[] = [];
  const index = new Map(published.map(({ content }, at) => [content, at]));
  if (index.size !== published.length) faults.push("published twice");
  for (const [content, outcome] of outcomes) {
    if (outcome === "published" && !index.has(content)) faults.push(`acknowledged, and not published: ${content}`);
    if (["expired", "not_connected", "outbox_full"].includes(outcome) && index.has(content)) faults.push(`${outcome}, and published: ${content}`);
  }
  const own = published.filter(({ content }) => content.startsWith("own")).map(({ content }) => parseInt(content.slice(4)));
  if (own.some((number, at) => at > 0 && number <= (own[at - 1] as number))) faults.push(`out of order: ${own}`);
  let [next, maySkip] = [startsAt, false];
  const seen = new Set<number>();
  for (const { content, gap } of told) {
    if (gap !== undefined) maySkip = true;
    if (content === undefined) continue;
    const at = index.get(content) as number;
    if (seen.has(at)) faults.push(`received twice: ${content}`);
    seen.add(at);
    if (at < next) faults.push(`received late: ${content}`);
    const lost = published.slice(next, at).filter((entry) => !isQuiet(entry.content));
    if (lost.length > 0 && !maySkip) faults.push(`lost in silence before ${content}: ${lost.map((entry) => entry.content)}`);
    [next, maySkip] = [Math.max(next, at + 1), false];
  }
  if (next !== published.length) faults.push(`lost at the end: ${published.slice(next).map((entry) => entry.content)}`);
  return faults;
}

// HAUYNA_SCHEDULES says how many, HAUYNA_SEED repeats one and shows what was said.
test("whatever happens in whatever order, nothing is lost in silence, doubled or disordered", async () => {
  const only = Number(process.env["HAUYNA_SEED"] ?? 0);
  const count = Number(process.env["HAUYNA_SCHEDULES"] ?? 40);
  const faults: string[] = [];
  for (let seed = only || 1; seed <= (only || count); seed++) {
    for (const fault of await run(seed)) faults.push(`seed ${seed}: ${fault}`);
  }
  expect(faults.slice(0, 30)).toEqual([]);
}, 600_000);
