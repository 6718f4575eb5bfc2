// Pages of several users with one worker in a random schedule: users sign in and out, their credentials are
// slow, pages freeze, workers and connections end. No page ever has another user's session, and nothing is
// published as another user.

import { beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.js";
import { Browser, type Page } from "./shared-world.js";

// The worker logs to the console.
beforeEach(() => ["warn" as const, "info" as const].forEach((level) => vi.spyOn(console, level).mockImplementation(() => {})));

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

const WAITS = [0, 0, 300, 900, 1200, 2500, 6000];
const PASSES = [0, 50, 500, 1500, 4000];

interface Person {
  readonly page: Page;
  user: string;
  /**
   * Whether the page publishes, once its user is known: requests before the first connection are sent as the
   * first user.
   */
  readonly isTalking: boolean;
}

class Storm {
  readonly #roll: (sides: number) => number;
  readonly #server = new FakeServer({ authenticate: ({ token }) => token?.replace(/-.*/, "") ?? "guest" });
  readonly #browser: Browser;
  readonly #people: Person[] = [];

  constructor(seed: number) {
    this.#roll = dice(seed);
    this.#browser = new Browser(this.#server, { hasLocks: this.#roll(2) === 0, tellsClose: this.#roll(2) === 0 });
  }

  #one<T>(of: readonly T[]): T {
    return of[this.#roll(of.length)] as T;
  }

  #user(): string {
    return this.#one(["ana", "bob", "cyd", "guest"]);
  }

  #arrive(): void {
    const getToken = () =>
      new Promise<string | undefined>((resolve) => {
        const { user } = person;
        const give = () => resolve(user === "guest" ? undefined : `${user}-${this.#roll(3)}`);
        this.#browser.environment.after(this.#one(WAITS), give);
      });
    const person: Person = { page: this.#browser.page({ getToken }), user: this.#user(), isTalking: this.#roll(2) === 0 };
    if (this.#roll(2)) void person.page.client.channel("room").subscribe().catch(() => {});
    this.#people.push(person);
    void person.page.client.connect().catch(() => {});
  }

  async #step(): Promise<void> {
    const person = this.#one(this.#people);
    const { page } = person;
    const kind = this.#roll(12);
    if (kind === 0 && this.#people.length < 5) this.#arrive();
    else if (kind === 1 && !page.isFrozen) {
      page.client.close();
      person.user = this.#user();
      if (this.#roll(2)) await this.#browser.pass(this.#roll(3000));
      void page.client.connect().catch(() => {});
    } else if (kind === 2) {
      person.user = this.#user();
      // A page that wakes runs its own handlers first.
      const wasFrozen = page.isFrozen;
      page.isFrozen = false;
      page.client.reconnect();
      if (wasFrozen) await page.thaw();
    } else if (kind === 3) await this.#server.drop(1006);
    else if (kind === 4) await this.#browser.kill();
    else if (kind === 5 && this.#people.some((other) => other !== person && !other.page.isFrozen)) await page.freeze();
    else if (kind === 6) await page.thaw();
    else if (kind === 7 && person.isTalking && page.client.user !== undefined) void page.client.channel("room").publish(person.user).catch(() => {});
    else if (kind === 8) await this.#server.send(person.user, { type: "reconnect", after: [0, 1000], reason: "drain" });
    else await this.#browser.pass(this.#one(PASSES));
  }

  /** Returns the pages that have another user's session. */
  #others(): string[] {
    const seen = this.#people.filter(({ page }) => !page.isFrozen && page.client.state.name === "connected");
    return seen.filter(({ page, user }) => page.client.user !== user).map(({ page, user }) => `${user} is ${page.client.user}`);
  }

  async run(): Promise<void> {
    this.#arrive();
    this.#arrive();
    for (let step = 0; step < 30; step++) {
      await this.#step();
      expect(this.#others()).toEqual([]);
    }
    expect(this.#server.channel("room").messages.filter(({ user, content }) => user !== content)).toEqual([]);
    for (const { page } of this.#people) await page.thaw();
    await this.#browser.pass(200_000);
    expect(this.#people.map(({ page }) => [page.client.state.name, page.client.user])).toEqual(this.#people.map(({ user }) => ["connected", user]));
  }
}

// HAUYNA_STORMS is the number of schedules, HAUYNA_SEED the first seed.
const STORMS = Number(process.env["HAUYNA_STORMS"] ?? 20);
const FIRST = Number(process.env["HAUYNA_SEED"] ?? 1);

test(`survives ${STORMS} random schedules with several users`, { timeout: 600_000 }, async () => {
  for (let seed = FIRST; seed < FIRST + STORMS; seed++) {
    try {
      await new Storm(seed).run();
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
