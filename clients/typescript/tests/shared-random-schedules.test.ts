// Pages of one browser in a random schedule: each living page receives every message once and in order, and
// nothing remains of the pages that are gone.

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

interface Watched {
  readonly page: Page;
  readonly heard: number[];
  readonly quiet: Set<number>;
  /** The number of the last message before the subscription. */
  since: number | undefined;
  readonly gaps: unknown[];
}

async function storm(seed: number): Promise<void> {
  const roll = dice(seed);
  const server = new FakeServer();
  const browser = new Browser(server, { hasLocks: roll(3) > 0, tellsClose: roll(2) > 0 });
  const room = server.channel("room");
  let all: Watched[] = [];
  let contents = 0;
  let isCut = false;
  const any = () => all[roll(all.length)];
  const enter = () => {
    const page = browser.page();
    const watched: Watched = { page, heard: [], quiet: new Set(), since: undefined, gaps: [] };
    const channel = page.client.channel("room");
    channel.on("message", ({ content }) => watched.heard.push(content as number));
    page.client.onGap((gap) => watched.gaps.push(gap));
    void page.client.connect().catch(() => {});
    void channel.subscribe().then(({ position }) => (watched.since = position?.offset)).catch(() => {});
    all.push(watched);
  };
  const actions: (() => unknown)[] = [
    () => all.length < 6 && enter(),
    () => room.publish(++contents, { user: "bob" }),
    () => room.publish(++contents, { user: "bob" }),
    () => void any()?.page.client.channel("room").publish(++contents).catch(() => {}),
    () => {
      const watched = any();
      const content = ++contents;
      watched?.quiet.add(content);
      return void watched?.page.client.channel("room").publish(content, { echo: false }).catch(() => {});
    },
    () => server.drop(1006),
    () => ((isCut = true), server.cut()),
    () => ((isCut = false), server.restore()),
    () => ((isCut = false), server.restore()),
    () => server.send("ana", { type: "reconnect", after: [0, 1000], reason: "drain" }),
    () => browser.kill(),
    () => any()?.page.freeze({ isReleased: roll(2) > 0 }),
    () => any()?.page.thaw(),
    () => any()?.page.thaw(),
    () => any()?.page.client.reconnect(),
    () => any()?.page.look(),
    async () => {
      if (all.length < 2) return;
      const [gone] = all.splice(roll(all.length), 1);
      if (roll(3) === 0) gone?.page.client.close();
      else if (roll(2)) await gone?.page.end();
      else await gone?.page.leave();
    },
    () => browser.pass(1 + roll(40_000)),
  ];
  enter();
  for (let step = 0; step < 50; step++) {
    const done = actions[roll(actions.length)]?.();
    if (roll(2)) await done;
    else for (let turn = roll(50); turn > 0; turn--) await undefined;
  }
  // From here on, the network and all pages work again.
  for (const { page } of all) await page.thaw();
  if (isCut) await server.restore();
  await browser.pass(400_000);
  for (const { page } of all) page.look();
  await browser.pass(60_000);
  await room.publish(++contents, { user: "bob" });
  await browser.pass(1_000);
  const published = room.messages.map(({ content, offset = 0 }) => [content as number, offset] as const);
  for (const { page, heard, quiet, since, gaps } of all) {
    expect([seed, page.client.state.name, page.client.channel("room").state.name]).toEqual([seed, "connected", "subscribed"]);
    const due = published.filter(([, offset]) => offset > (since ?? Infinity)).map(([content]) => content);
    const isIn = new Set(heard);
    // A recovery may contain the page's own message that it published without an echo.
    expect([seed, heard, gaps]).toEqual([seed, due.filter((content) => !quiet.has(content) || isIn.has(content)), []]);
  }
  expect([seed, server.users, room.subscribers]).toEqual([seed, ["ana"], ["ana"]]);
  for (const { page } of all) await page.end();
  await browser.pass(300_000);
  expect([seed, server.users, room.subscribers]).toEqual([seed, [], []]);
}

const SEEDS = Number(process.env["HAUYNA_STORMS"] ?? 20);
const FIRST = Number(process.env["HAUYNA_SEED"] ?? 1);

test(`survives ${SEEDS} random schedules`, { timeout: 600_000 }, async () => {
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) await storm(seed);
});
