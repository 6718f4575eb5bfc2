// A random schedule of losses, moves, gaps and new epochs, against a model of the server: every publication
// arrives once and in order, or a gap is reported, and every acknowledged message is published once.

import { expect, test } from "vitest";
import { type Client, HauynaError } from "../src/index.js";
import { Dice, Model, trace } from "./model.js";
import { World, settle } from "./world.js";

/** A message without an echo: its client has it already, and may receive it again from the history. */
const QUIET = " without echo";
const isQuiet = (content: string) => content.endsWith(QUIET);

interface Told {
  content?: string;
  gap?: string;
}

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
  // Components subscribe and unsubscribe while the first one stays.
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

// HAUYNA_SCHEDULES is the number of schedules; HAUYNA_SEED repeats one of them and prints its messages.
test("no message is lost silently, duplicated or reordered, whatever happens in whatever order", async () => {
  const only = Number(process.env["HAUYNA_SEED"] ?? 0);
  const count = Number(process.env["HAUYNA_SCHEDULES"] ?? 40);
  const faults: string[] = [];
  for (let seed = only || 1; seed <= (only || count); seed++) {
    for (const fault of await run(seed)) faults.push(`seed ${seed}: ${fault}`);
  }
  expect(faults.slice(0, 30)).toEqual([]);
}, 600_000);
