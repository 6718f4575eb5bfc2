// As torture.test.ts, with further actions of an application: components in many channels, tokens, presence,
// client events, iterators, aborts, a client that is closed and connects again, a server that restarts.

import { expect, test } from "vitest";
import { type Channel, HauynaError } from "../src/index.js";
import { Dice, Model, trace } from "./model.js";
import { World, settle } from "./world.js";

/** How many side channels the server's application subscribes clients to as well. */
const OPEN = 8;

/** The pending promises, all of which have to settle. */
class Promises {
  readonly open = new Set<string>();
  #count = 0;

  watch<T>(what: string, promise: Promise<T>): Promise<T> {
    const name = `${what} ${this.#count++}`;
    this.open.add(name);
    const done = () => void this.open.delete(name);
    promise.then(done, done);
    return promise;
  }
}

class Schedule {
  readonly dice: Dice;
  readonly world = new World();
  readonly model: Model;
  readonly client;
  readonly room: Channel;
  readonly sides: Channel[];
  readonly promises = new Promises();
  readonly faults: string[] = [];
  readonly told: string[] = [];
  readonly outcomes = new Map<string, string>();
  /** Whether a message may be missing before the next one. */
  #maySkip = true;
  #next = 0;
  readonly #seen = new Set<number>();
  /** The metadata that the server acknowledged last, and the newest. */
  acknowledged = 0;
  newest = 0;
  #number = 0;
  /** The side channels in use, by their shares. */
  readonly wanted = new Map<string, Set<object>>();

  constructor(seed: number) {
    this.dice = new Dice(seed);
    this.model = new Model(this.world, this.dice);
    this.client = this.world.client({ timeout: 3000, retry: { baseDelay: 50, maxDelay: 200, backoffMultiplier: 2 } });
    this.room = this.client.channel("room");
    this.sides = Array.from({ length: 30 }, (_, at) => this.client.channel(`side-${at}`));
    for (const side of this.sides) side.onState(({ name }) => name === "unsubscribed" && this.wanted.get(side.name)?.clear());
    this.room.onState(({ name, error }) => name === "unsubscribed" && error && this.world.after(this.dice.below(100), () => this.subscribe()));
    this.room.on("message", ({ content }) => this.#hear(content as string));
    this.room.onGap((gap) => (trace("  GAP", gap), (this.#maySkip = true)));
    this.client.onState(({ name }) => {
      trace("  STATE", name);
      // Components connect again, as the stores do.
      if (name === "closed") this.world.after(this.dice.below(300), () => void this.connect());
    });
  }

  connect(): void {
    if (this.isOver || this.client.state.name !== "closed") return;
    this.promises.watch("connect", this.client.connect()).catch(() => {});
    this.subscribe();
  }

  isOver = false;

  /** Keeps one share of the room, with or without a token. */
  subscribe(): void {
    if (this.room.state.name !== "unsubscribed" || this.client.state.name === "closed") return;
    const ask = async () => {
      for (let n = this.dice.below(3); n > 0; n--) await new Promise<void>((resolve) => void this.world.after(this.dice.below(50), resolve));
      return ((await this.client.request("token", {}, { timeout: 500 })) as { token: string }).token;
    };
    if (!this.room.position) this.#maySkip = true;
    this.promises
      .watch("subscribe", this.room.subscribe({ metadata: { n: 0 }, ...(this.dice.chance(50) && { getToken: ask }) }))
      .catch(() => {});
    this.acknowledged = 0;
  }

  #hear(content: string): void {
    trace("  TOLD", content);
    const at = this.model.published.findIndex((entry) => entry.content === content);
    if (this.#seen.has(at)) this.faults.push(`received twice: ${content}`);
    this.#seen.add(at);
    if (at < this.#next) this.faults.push(`received late: ${content}`);
    const lost = this.model.published.slice(this.#next, at);
    if (lost.length > 0 && !this.#maySkip) this.faults.push(`lost in silence before ${content}: ${lost.map((one) => one.content)}`);
    this.#next = Math.max(this.#next, at + 1);
    this.#maySkip = false;
  }

  publish(): void {
    const content = `own ${this.#number++}`;
    const controller = new AbortController();
    if (this.dice.chance(10)) this.world.after(this.dice.below(60), () => controller.abort());
    this.promises.watch("publish", this.room.publish(content, { signal: controller.signal })).then(
      () => this.outcomes.set(content, "published"),
      (error: unknown) => this.outcomes.set(content, error instanceof HauynaError ? error.kind : "aborted"),
    );
  }

  beside(): void {
    const side = this.sides[this.dice.below(this.sides.length)] as Channel;
    const content = `${side.name} ${this.#number++}`;
    this.promises.watch("beside", side.publish(content)).then(
      () => this.outcomes.set(content, "published beside"),
      (error: unknown) => this.outcomes.set(content, (error as HauynaError).kind),
    );
  }

  /** Uses a side channel for a while, like a component. */
  component(): void {
    const side = this.sides[this.dice.below(this.sides.length)] as Channel;
    const shares = this.wanted.get(side.name) ?? new Set();
    this.wanted.set(side.name, shares);
    const own = {};
    if (this.dice.chance(20)) {
      shares.clear();
      return void this.promises.watch("unsubscribe", side.unsubscribe());
    }
    const controller = new AbortController();
    shares.add(own);
    this.promises.watch("side", side.subscribe({ signal: controller.signal })).catch(() => shares.delete(own));
    if (this.dice.chance(60)) this.world.after(this.dice.below(400), () => (shares.delete(own), controller.abort()));
  }

  update(): void {
    if (this.room.state.name === "unsubscribed") return;
    const n = ++this.newest;
    this.promises.watch("update", this.room.presence.update({ n })).then(
      () => (this.acknowledged = n),
      () => {},
    );
  }

  /** Scrolls back, but not always to the beginning. */
  async older(): Promise<void> {
    const controller = new AbortController();
    if (this.dice.chance(30)) this.world.after(this.dice.below(100), () => controller.abort());
    let before = Infinity;
    try {
      for await (const { offset } of this.room.older({ limit: 3, signal: controller.signal })) {
        if (before !== Infinity && offset !== before - 1) this.faults.push(`older: ${offset} behind ${before}`);
        before = offset as number;
        if (this.dice.chance(5)) break;
      }
    } catch (error) {
      if (!(error instanceof HauynaError) && !controller.signal.aborted) this.faults.push(`older: ${error}`);
    }
  }

  /** Iterates over the publications. */
  async follow(): Promise<void> {
    const controller = new AbortController();
    if (this.dice.chance(30)) this.world.after(this.dice.below(500), () => controller.abort());
    let last = -1;
    try {
      for await (const { content } of this.room.messages({ signal: controller.signal })) {
        const at = this.model.published.findIndex((entry) => entry.content === content);
        if (at <= last) this.faults.push(`a loop gets late: ${content}`);
        last = at;
      }
    } catch (error) {
      if (!(error instanceof HauynaError) && !controller.signal.aborted) this.faults.push(`loop: ${error}`);
    }
  }

  async run(): Promise<string[]> {
    const { dice, model } = this;
    this.connect();
    for (let n = 0; n < 200; n++) {
      await model.step();
      if (dice.chance(25)) model.publish(`other ${n}`);
      if (dice.chance(12)) this.publish();
      if (dice.chance(12)) this.beside();
      if (dice.chance(30)) this.component();
      if (dice.chance(5)) this.update();
      if (dice.chance(10)) this.room.send("cursor", this.#number++);
      if (dice.chance(2)) void this.promises.watch("older", this.older());
      if (dice.chance(2)) void this.promises.watch("follow", this.follow());
      if (dice.chance(1)) this.client.close();
      if (dice.chance(1)) this.client.reconnect();
      if (dice.chance(2)) model.decide("room");
      if (dice.chance(8)) model.decide(`side-${dice.below(OPEN)}`);
      if (dice.chance(1) && dice.chance(50)) await model.restart();
      else if (dice.chance(1)) model.turn((["kept", "lost"] as const)[dice.below(2)] as "kept");
      if (dice.chance(2)) model.connections.findLast(({ isOver, isGreeted }) => !isOver && isGreeted)?.out.push({ type: "reconnect", after: [0, dice.below(300)] });
    }
    model.isCalm = true;
    for (let n = 0; n < 300; n++) await model.step();
    this.connect();
    this.subscribe();
    await this.world.pass(5000);
    for (let n = 0; n < 300; n++) await model.step();
    model.publish("mark");
    for (let n = 0; n < 100; n++) await model.step();
    this.#judge();
    this.isOver = true;
    this.client.close();
    await settle();
    await settle();
    if (this.promises.open.size > 0) this.faults.push(`without an end: ${[...this.promises.open]}`);
    await this.world.pass(100_000);
    if (this.world.timers + this.world.watchers > 0) this.faults.push(`timers: ${this.world.timers}, watchers: ${this.world.watchers}`);
    return this.faults;
  }

  #judge(): void {
    const { faults, model, outcomes, promises } = this;
    const { published, beside, events } = model;
    if (this.client.state.name !== "connected" || this.room.state.name !== "subscribed") faults.push(`at the end ${this.client.state.name}, ${this.room.state.name}`);
    if (this.#next !== published.length) faults.push("lost at the end");
    for (const list of [published.map(({ content }) => content), beside]) {
      if (new Set(list).size !== list.length) faults.push(`published twice: ${list.filter((one, at) => list.indexOf(one) !== at)}`);
    }
    for (const [content, outcome] of outcomes) {
      const isThere = beside.includes(content) || published.some((entry) => entry.content === content);
      if (outcome.startsWith("published") && !isThere) faults.push(`acknowledged, and not published: ${content}`);
      if (["expired", "not_connected", "outbox_full", "closed", "refused"].includes(outcome) && isThere) faults.push(`${outcome}, and published: ${content}`);
    }
    const live = model.connections.findLast(({ isOver }) => !isOver);
    const server = [...(live?.sides ?? [])].sort();
    const client = this.sides.filter(({ state }) => state.name === "subscribed").map(({ name }) => name).sort();
    if (`${server}` !== `${client}`) faults.push(`the server has ${server}, and the client ${client}`);
    const wanted = [...this.wanted].filter(([, shares]) => shares.size > 0).map(([name]) => name).sort();
    const own = client.filter((name) => wanted.includes(name) || parseInt(name.slice(5)) >= OPEN);
    if (`${wanted}` !== `${own}`) faults.push(`wanted are ${wanted}, and subscribed ${own}`);
    const said = (live?.metadata as { n: number } | undefined)?.n ?? -1;
    if (said < this.acknowledged) faults.push(`metadata ${said}, and ${this.acknowledged} was acknowledged`);
    const numbers = events.map(({ data }) => data as number);
    if (numbers.some((data, at) => at > 0 && data <= (numbers[at - 1] as number))) faults.push(`client events out of order: ${numbers}`);
    const waiting = [...promises.open].filter((name) => !name.startsWith("follow"));
    if (waiting.length > 0) faults.push(`still waiting: ${waiting}`);
  }
}

// HAUYNA_SCHEDULES is the number of schedules; HAUYNA_SEED repeats one of them and prints its messages.
test("no message or request is lost or duplicated, and nothing is left behind, whatever else the application does", async () => {
  const only = Number(process.env["HAUYNA_SEED"] ?? 0);
  const count = Number(process.env["HAUYNA_SCHEDULES"] ?? 40);
  const faults: string[] = [];
  for (let seed = only || 1; seed <= (only || count); seed++) {
    for (const fault of await new Schedule(seed).run()) faults.push(`seed ${seed}: ${fault}`);
  }
  expect(faults.slice(0, 30)).toEqual([]);
}, 600_000);
