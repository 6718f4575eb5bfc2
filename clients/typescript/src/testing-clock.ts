// The time and the network of a fake server's clients. The test controls the time, or the timers of the
// process do, which a test runner may have replaced.

import type { Environment, Signal } from "hauyna";

/**
 * What controls the time: `manual` is the test, by `pass`; `global` are the timers of the process, real or
 * faked.
 */
export type FakeTime = "manual" | "global";

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

/** The environment of clients in a test. */
export class FakeClock implements Environment {
  readonly #mode: FakeTime;
  #currentTime = Date.UTC(2026, 0, 1);
  #timers: Timer[] = [];
  readonly #watchers = new Set<(signal: Signal) => void>();

  constructor(time: FakeTime) {
    this.#mode = time;
  }

  now(): number {
    return this.#mode === "manual" ? this.#currentTime : Date.now();
  }

  random(): number {
    return 0.5;
  }

  after(delay: number, run: () => void): () => void {
    if (this.#mode === "global") {
      // The longest delay of a browser's timer: 31 bits.
      const timer = setTimeout(run, Math.min(delay, 2 ** 31 - 1));
      return () => clearTimeout(timer);
    }
    const timer = { at: this.#currentTime + delay, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** As `after`, with a timer that does not keep the process alive. */
  afterUnref(delay: number, run: () => void): () => void {
    if (this.#mode === "manual") return this.after(delay, run);
    const timer = setTimeout(run, delay) as { unref?: () => void };
    timer.unref?.();
    return () => clearTimeout(timer as ReturnType<typeof setTimeout>);
  }

  isOnline(): boolean {
    return true;
  }

  watch(listener: (signal: Signal) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  /** Tells every client that the network has returned. */
  online(): void {
    for (const watcher of this.#watchers) watcher("online");
  }

  /** Advances the time by `duration` milliseconds, and runs everything that becomes due. */
  async pass(duration: number): Promise<void> {
    if (this.#mode === "global") throw new Error('time is "global": advance the timers of the test runner instead');
    const end = this.#currentTime + duration;
    await settled();
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0];
      if (!due) break;
      this.#currentTime = Math.max(this.#currentTime, due.at);
      this.#timers = this.#timers.filter((other) => other !== due);
      due.run();
      await settled();
    }
    this.#currentTime = end;
  }
}

/** Lets pending promises run. It needs no timer, so it works with real and faked timers. */
export async function settled(): Promise<void> {
  for (let step = 0; step < MAX_PROMISE_CHAIN; step++) await undefined;
}

/** More than the length of any chain of promises in the client and its server. */
const MAX_PROMISE_CHAIN = 200;
