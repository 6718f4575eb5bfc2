// A random schedule in which a channel is unsubscribed and subscribed again from earlier positions, while
// connections are lost, moved and ended: each subscription receives everything after its position once and in
// order, or a gap is reported.

import { expect, test } from "vitest";
import type { Channel, Client, Position } from "../src/index.js";
import { Dice, Model, trace } from "./model.js";
import { World, settle } from "./world.js";

/** The messages between one `subscribe` and the next. */
interface WantedChannel {
  /** The position at which the subscription starts, as soon as it is known. */
  start: Position | undefined;
  readonly told: { content?: string }[];
}

/** An application that subscribes and unsubscribes at random. */
class Restless {
  readonly wishes: WantedChannel[] = [];
  readonly #room: Channel<{ message: string }>;
  readonly #dice: Dice;
  readonly #seen: Position[] = [];
  #wish: WantedChannel | undefined;
  isOut = false;

  constructor(client: Client, dice: Dice) {
    this.#dice = dice;
    this.#room = client.channel<{ message: string }>("room");
    this.#room.on("message", ({ content }) => {
      this.#wish?.told.push({ content });
      if (this.#room.position) this.#seen.push(this.#room.position);
      trace("  TOLD", content, this.#room.position);
    });
    this.#room.onGap((gap) => (this.#wish?.told.push({}), trace("  GAP", gap)));
  }

  want(since: Position | undefined): void {
    trace("  WANT", since);
    // If the server's application has created a subscription, it has its position already.
    const wish: WantedChannel = { start: this.#room.state.name === "unsubscribed" ? since : undefined, told: [] };
    this.wishes.push((this.#wish = wish));
    this.isOut = false;
    this.#subscribe(wish, since);
  }

  /** Subscribes again from the last position after the server has ended the subscription. */
  insist(): void {
    if (this.#wish && this.#room.state.name === "unsubscribed") this.#subscribe(this.#wish, undefined);
  }

  change(): void {
    if (!this.isOut) {
      trace("  OUT");
      void this.#room.unsubscribe();
      this.#wish = undefined;
    }
    this.isOut = this.#dice.chance(20);
    if (!this.isOut) this.want(this.#dice.chance(30) ? undefined : this.#position());
  }

  #position(): Position | undefined {
    return this.#dice.chance(50) ? this.#seen.at(-1) : this.#seen[this.#dice.below(this.#seen.length || 1)];
  }

  #subscribe(wish: WantedChannel, since: Position | undefined): void {
    this.#room.subscribe({ since }).then(
      ({ position }) => (wish.start ??= position),
      () => {},
    );
  }
}

async function run(seed: number): Promise<string[]> {
  const dice = new Dice(seed);
  const world = new World();
  const model = new Model(world, dice);
  /** The numbering to which each epoch belongs. */
  const numberings = new Map([[model.epoch, 0]]);
  const client = world.client({ timeout: 3000, retry: { baseDelay: 50, maxDelay: 200, backoffMultiplier: 2 } });
  const application = new Restless(client, dice);
  void client.connect().catch(() => {});
  application.want(undefined);
  for (let n = 0; n < 220; n++) {
    await model.step();
    if (dice.chance(25)) model.publish(`message ${n}`);
    if (dice.chance(4)) model.drop();
    if (dice.chance(30)) application.insist();
    if (dice.chance(4)) decide(model);
    if (dice.chance(1)) turn(model, numberings, dice.chance(50));
    if (dice.chance(5)) current(model)?.out.push({ type: "reconnect", after: [0, dice.below(300)], reason: "drain" });
    if (dice.chance(application.isOut ? 40 : 8)) application.change();
  }
  if (application.isOut) application.want(undefined);
  model.isCalm = true;
  for (let n = 0; n < 300; n++) {
    await model.step();
    application.insist();
  }
  await world.pass(5000);
  for (let n = 0; n < 100; n++) await model.step();
  model.publish("mark");
  for (let n = 0; n < 200; n++) await model.step();
  client.close();
  await settle();
  return application.wishes.flatMap((wish, at) => judge(model, numberings, wish, at === application.wishes.length - 1));
}

function current({ connections }: Model) {
  return connections.findLast(({ isOver, isGreeted }) => !isOver && isGreeted);
}

/** Ends or creates a subscription, as the server's application does. */
function decide(model: Model): void {
  const one = current(model);
  if (one?.isSubscribed) return model.decide("room");
  if (!one) return;
  one.isSubscribed = true;
  one.out.push({ type: "subscribed", ...model.standing() });
}

function turn(model: Model, numberings: Map<string, number>, isKept: boolean): void {
  const numbering = numberings.get(model.epoch) as number;
  model.turn(isKept ? "kept" : "lost");
  numberings.set(model.epoch, isKept ? numbering : numbering + 1);
}

function judge({ published }: Model, numberings: Map<string, number>, { start, told }: WantedChannel, isLast: boolean): string[] {
  if (!start) return isLast ? ["never subscribed"] : [];
  const faults: string[] = [];
  const order = ({ epoch, offset }: Position) => (numberings.get(epoch) as number) * 1e6 + offset;
  const first = published.findIndex((entry) => order(entry) > order(start));
  let [next, maySkip] = [first < 0 ? published.length : first, false];
  for (const { content } of told) {
    if (content === undefined) maySkip = true;
    else {
      const at = published.findIndex((entry) => entry.content === content);
      if (at < next) faults.push(`twice or late: ${content}`);
      if (at > next && !maySkip) faults.push(`lost in silence: ${published[next]?.content} to ${content}`);
      [next, maySkip] = [Math.max(next, at + 1), false];
    }
  }
  if (isLast && next !== published.length) faults.push(`lost at the end: ${published[next]?.content}`);
  return faults;
}

// HAUYNA_SCHEDULES is the number of schedules; HAUYNA_SEED repeats one of them and prints its messages.
test("a client that unsubscribes and subscribes again receives the messages after the position, or a gap", async () => {
  const only = Number(process.env["HAUYNA_SEED"] ?? 0);
  const count = Number(process.env["HAUYNA_SCHEDULES"] ?? 100);
  const faults: string[] = [];
  for (let seed = only || 1; seed <= (only || count); seed++) {
    for (const fault of await run(seed)) faults.push(`seed ${seed}: ${fault}`);
  }
  expect(faults.slice(0, 30)).toEqual([]);
}, 600_000);
