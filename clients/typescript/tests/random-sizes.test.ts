// Requests of any size behind a proxy with a limit, at random: some are aborted or late, sessions are forgotten,
// and clients move. Nothing is refused that the proxy takes, no call waits for ever, and in the end the connection
// lasts.

import { beforeEach, expect, test, vi } from "vitest";
import type { Client, ServerError } from "../src/index.js";
import { FakeServer } from "../src/testing.js";
import { Dice } from "./model.js";
import { Browser } from "./shared-world.js";

// The worker has the console for its log.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

/** More than a frame has besides its text. */
const REST = 400;

/** One application, in a page of its own or in two that share a worker. */
class Application {
  readonly #dice: Dice;
  readonly #server = new FakeServer({ channels: { presence: true } as never });
  readonly #limit: number;
  readonly #browser: Browser;
  readonly #clients: Client[];
  /** Long names: a `resume` may be larger than the proxy takes. */
  readonly #names: string[];
  readonly #faults: string[] = [];
  #pending = 0;
  /** How many connections the proxy has ended. */
  #ended = 0;

  constructor(seed: number, isShared: boolean) {
    this.#dice = new Dice(seed);
    this.#limit = 1000 + this.#dice.below(4000);
    this.#limitFrames();
    this.#server.answer("look", () => (this.#dice.chance(60) ? {} : new Promise<object>(() => {})));
    this.#browser = new Browser(this.#server);
    const options = { ttl: 600_000, timeout: 5000, retry: { baseDelay: 100, maxDelay: 2000, backoffMultiplier: 2 } };
    const count = isShared ? 2 : 1;
    this.#clients = Array.from({ length: count }, () => (isShared ? this.#browser.page(options).client : this.#server.client(options)));
    this.#names = Array.from({ length: 3 + this.#dice.below(12) }, (_, n) => `${n}-`.padEnd(100 + this.#dice.below(150), "x"));
  }

  /** A connection ends with 1009 some time after a frame that is too large; nothing behind it is read. */
  #limitFrames(): void {
    const limited = (bytes: number) => bytes > this.#limit;
    const end = (socket: WebSocket) => void this.#end(socket);
    const Original = this.#server.WebSocket as unknown as typeof WebSocket;
    const Limited = class extends Original {
      isBlocked = false;
      override send(frame: string): void {
        if (this.isBlocked) return;
        if (!limited(frame.length)) return super.send(frame);
        this.isBlocked = true;
        end(this);
      }
    };
    Object.assign(this.#server, { WebSocket: Limited });
  }

  async #end(socket: WebSocket): Promise<void> {
    this.#ended++;
    if (this.#dice.chance(40)) await this.#after([300, 4000, 12_000][this.#dice.below(3)] as number);
    else for (let turns = this.#dice.below(60); turns > 0; turns--) await undefined;
    socket.onclose?.({ code: 1009, reason: "" } as CloseEvent);
    socket.close(1006);
  }

  #after(delay: number): Promise<void> {
    return new Promise((resolve) => this.#browser.environment.after(delay, resolve));
  }

  #track(what: string, bytes: number, promise: Promise<unknown>): void {
    this.#pending++;
    const refused = (error: Partial<ServerError>) => {
      if (error.type === "payload_too_large" && bytes + REST < this.#limit) this.#faults.push(`${what} of ${bytes} bytes was refused`);
    };
    promise.catch(refused).finally(() => this.#pending--);
  }

  #ask(client: Client, step: number): void {
    const { below, chance } = { below: (bound: number) => this.#dice.below(bound), chance: (percent: number) => this.#dice.chance(percent) };
    const bytes = chance(70) ? below(this.#limit - REST) : this.#limit + below(6000);
    const text = "y".repeat(bytes);
    const room = client.channel<{ message: string }, { drawing: string }>(this.#names[below(this.#names.length)] as string);
    const kind = below(6);
    if (kind === 0) this.#track("a publication", bytes, room.publish(text));
    else if (kind === 1) this.#track("an update", bytes, client.channel<object>("members").presence.update({ text } as never));
    else if (kind === 2) room.send("drawing", text);
    else if (kind === 3) {
      const other = client.channel<object>(`other ${step}`);
      this.#track("a subscription", bytes, other.subscribe({ metadata: { text } }));
      if (chance(50)) void this.#after(below(20)).then(() => other.unsubscribe());
    } else {
      const abort = new AbortController();
      const timeout = [100, 1000, 8000][below(3)] as number;
      this.#track("a request", bytes, client.request("look", { text }, { timeout, repeatable: chance(50), signal: abort.signal }));
      if (chance(30)) void this.#after(below(200)).then(() => abort.abort("enough"));
    }
  }

  async #step(step: number): Promise<void> {
    const kind = this.#dice.below(12);
    if (kind === 0) await this.#server.drop(1006);
    else if (kind === 1) await this.#server.send(this.#server.users[0] ?? "", { type: "reconnect", after: [0, 500], reason: "drain" });
    else if (kind === 2) {
      await this.#server.cut();
      await this.#browser.pass(this.#dice.chance(50) ? 70_000 : 5000); // sessions are kept for a minute
      await this.#server.restore();
    } else if (kind < 9) this.#ask(this.#clients[this.#dice.below(this.#clients.length)] as Client, step);
    else await this.#browser.pass([0, 50, 300, 2500][this.#dice.below(4)] as number);
    if (this.#dice.chance(50)) await this.#browser.settle();
  }

  async run(): Promise<string[]> {
    for (const client of this.#clients) {
      void client.connect();
      void client.channel("members").subscribe().catch(() => {}); // its own metadata may become too large
      for (const name of this.#names) this.#track("a small subscription", 0, client.channel(name).subscribe());
    }
    await this.#browser.pass(5000);
    for (let step = 0; step < 50; step++) await this.#step(step);
    await this.#browser.pass(120_000);
    const ended = this.#ended;
    await this.#browser.pass(120_000);
    if (this.#ended > ended) this.#faults.push("the connections end again and again");
    if (this.#pending > 0) this.#faults.push(`${this.#pending} calls wait for ever`);
    for (const client of this.#clients) {
      const states = [client.state, ...this.#names.map((name) => client.channel(name).state)];
      this.#faults.push(...states.map(({ name }) => name).filter((name) => !/^(connected|subscribed)$/.test(name)));
      client.close();
    }
    return this.#faults;
  }
}

// HAUYNA_STORMS says how many, HAUYNA_SEED where they begin.
const COUNT = Number(process.env["HAUYNA_STORMS"] ?? 10);
const FIRST = Number(process.env["HAUYNA_SEED"] ?? 1);

test.each([["one page", false], ["pages that share a worker", true]])("%s behind a proxy with a limit", { timeout: 600_000 }, async (_, isShared) => {
  const faults: string[] = [];
  for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
    for (const fault of await new Application(seed, isShared).run()) faults.push(`seed ${seed}: ${fault}`);
  }
  expect(faults.slice(0, 20)).toEqual([]);
});
