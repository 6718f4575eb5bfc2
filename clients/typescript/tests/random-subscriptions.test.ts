// Many channels of one client in a random schedule: the application and its listeners subscribe and
// unsubscribe, while the server asks to wait, ends subscriptions, moves the client and loses connections. At
// the end, client and server have the same subscriptions.

import { expect, test } from "vitest";
import type { Client } from "../src/index.js";
import { FakeServer, Refusal } from "../src/testing.js";
import { fate } from "./world.js";

/** Returns a generator of pseudo-random numbers that depend only on the seed (mulberry32). */
function dice(seed: number): (sides: number) => number {
  let state = seed;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides;
  };
}

/** More channels than the number of subscribe requests under way at a time. */
const NAMES = Array.from({ length: 24 }, (_, n) => `room ${n}`);
const REFUSED = ["subscribe_channel", "unsubscribe_channel", "history", "presence"];

class Storm {
  readonly #roll: (sides: number) => number;
  readonly #server = new FakeServer();
  readonly #client: Client = this.#server.client({ user: "ana" });
  readonly #heard = new Map(NAMES.map((name) => [name, [] as unknown[]]));
  readonly #shares = new Map(NAMES.map((name) => [name, [] as AbortController[]]));
  readonly #asked: { now: unknown }[] = [];
  #contents = 0;
  #tokenDelay = 0;
  #depth = 0;
  #isCalm = false;

  constructor(seed: number) {
    this.#roll = dice(seed);
    for (const name of NAMES) {
      const room = this.#client.channel(name);
      room.on("message", ({ content }) => void this.#heard.get(name)?.push(content));
      room.on("message", () => this.#react(name));
      room.onState(() => this.#react(name));
      room.presence.on("change", () => this.#react(name));
    }
    this.#client.onState(() => this.#react(this.#name()));
  }

  #name(): string {
    return NAMES[this.#roll(NAMES.length)] as string;
  }

  #track(promise: Promise<unknown>): void {
    this.#asked.push(fate(promise));
  }

  #subscribe(name: string, hasToken = false): void {
    const own = new AbortController();
    this.#shares.get(name)?.push(own);
    const getToken = () => new Promise<string>((resolve) => this.#client.environment.after(this.#tokenDelay, () => resolve("t")));
    this.#track(this.#client.channel(name).subscribe({ signal: own.signal, ...(hasToken && { getToken }) }));
  }

  #unsubscribe(name: string): void {
    this.#track(this.#client.channel(name).unsubscribe());
  }

  #publish(name: string, echo: boolean): void {
    this.#track(this.#client.channel(name).publish(++this.#contents, { echo }));
  }

  #connectAnew(): void {
    this.#client.close();
    void this.#client.connect().catch(() => {});
  }

  /** Performs a random action in a listener. */
  #react(name: string): void {
    if (this.#isCalm || this.#depth > 2 || this.#roll(12)) return;
    this.#depth++;
    const kind = this.#roll(6);
    if (kind === 0) this.#subscribe(name);
    else if (kind === 1) this.#unsubscribe(name);
    else if (kind === 2) this.#client.reconnect();
    else if (kind === 3) this.#connectAnew();
    else if (kind === 4) this.#shares.get(name)?.shift()?.abort();
    else this.#publish(name, true);
    this.#depth--;
  }

  #act(): unknown {
    const name = this.#name();
    const channel = this.#server.channel(name);
    const kind = this.#roll(18);
    if (kind === 0) return this.#subscribe(name, this.#roll(3) === 0);
    if (kind === 1) return [1, 2, 3, 4, 5].forEach(() => this.#subscribe(this.#name()));
    if (kind === 2) return this.#shares.get(name)?.pop()?.abort();
    if (kind === 3) return this.#unsubscribe(name);
    if (kind <= 5) return this.#unsubscribe(name), this.#subscribe(name);
    if (kind === 6) return void channel.publish(++this.#contents, { user: "bob" });
    if (kind === 7) return this.#publish(name, this.#roll(2) === 0);
    if (kind === 8) return this.#track(this.#client.channel(name).history());
    if (kind === 9) return this.#track(this.#client.channel(name).presence.refresh());
    if (kind === 10) return this.#track(this.#client.channel(name).presence.update({ n: ++this.#contents }));
    if (kind === 11) return this.#server.drop(1006);
    if (kind === 12) return this.#server.send("ana", { type: "reconnect", after: [0, 1000], reason: "drain" });
    if (kind === 13) return this.#client.reconnect();
    if (kind === 14) return void channel.unsubscribe("ana");
    if (kind === 15) return (this.#tokenDelay = [0, 500, 20_000][this.#roll(3)] as number);
    if (kind === 16) return this.#server.pass(this.#roll(3000));
    const refusal = new Refusal("rate_limited", "slowly", { retry_after: 100 + this.#roll(3000) });
    return void this.#server.refuse(REFUSED[this.#roll(REFUSED.length)] as string, refusal, 1 + this.#roll(6));
  }

  async run(): Promise<void> {
    void this.#client.connect().catch(() => {});
    for (let step = 0; step < 150; step++) {
      const done = this.#act();
      if (this.#roll(2)) await done;
      else for (let turn = this.#roll(12); turn > 0; turn--) await undefined;
    }
    this.#isCalm = true;
    for (let minute = 0; minute < 8; minute++) await this.#server.pass(60_000);
    expect(this.#client.state.name).toBe("connected");
    expect(this.#asked.filter(({ now }) => now === "pending")).toEqual([]);
    for (const name of NAMES) await this.#compare(name);
  }

  async #compare(name: string): Promise<void> {
    const room = this.#client.channel(name);
    const channel = this.#server.channel(name);
    const heard = this.#heard.get(name) as unknown[];
    const before = heard.length;
    await channel.publish("mark", { user: "bob" });
    await this.#server.settled();
    expect([name, new Set(heard).size]).toEqual([name, heard.length]);
    if (channel.subscribers.length === 0) return expect([name, room.state.name, heard.length]).toEqual([name, "unsubscribed", before]);
    expect([name, room.state.name, heard.slice(before)]).toEqual([name, "subscribed", ["mark"]]);
    expect([name, [...room.presence.users.keys()], room.position]).toEqual([name, channel.present, channel.position]);
  }
}

// HAUYNA_STORMS is the number of schedules, HAUYNA_SEED the first seed.
const STORMS = Number(process.env["HAUYNA_STORMS"] ?? 20);
const FIRST = Number(process.env["HAUYNA_SEED"] ?? 1);

test(`survives ${STORMS} random series of subscriptions`, { timeout: 600_000 }, async () => {
  for (let seed = FIRST; seed < FIRST + STORMS; seed++) {
    try {
      await new Storm(seed).run();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
