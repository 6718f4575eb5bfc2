// Limits the requests of one kind: a few are under way at a time, in order, and none while the server has
// asked this kind to wait.

import { delayAfter } from "./backoff.js";
import type { Environment } from "./environment.js";
import { ServerError } from "./error.js";
import { notConnected } from "./outbox.js";

/** Lets a few requests run at a time, in the order of their arrival. */
export class RequestLimiter {
  readonly #environment: Environment;
  #freeSlots = MAX_RUNNING;
  readonly #waiting: (() => void)[] = [];
  /** Cancels the pause that the server has asked for. */
  #cancelPause: (() => void) | undefined;
  /** Increases with each loss of the connection. Requests of an earlier generation hold no slot. */
  #generation = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /**
   * Runs `ask` when a slot is free, and after `former` has settled or timed out. Fails if the connection is
   * lost before.
   */
  async run<T>(ask: () => Promise<T>, former?: Promise<unknown>): Promise<T> {
    const generation = this.#generation;
    if (former) {
      let cancel = () => {};
      const timeout = new Promise<void>((resolve) => (cancel = this.#environment.after(ANSWER_TIMEOUT, resolve)));
      await Promise.race([former.catch(() => {}), timeout]);
      cancel();
      if (generation !== this.#generation) throw notConnected();
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(async () => {
        if (generation !== this.#generation) return reject(notConnected());
        try {
          resolve(await ask());
        } catch (error) {
          if (generation === this.#generation && error instanceof ServerError && error.retryAfter) this.#pauseFor(delayAfter(error));
          reject(error);
        }
        if (generation !== this.#generation) return;
        this.#freeSlots++;
        this.#runNext();
      });
      this.#runNext();
    });
  }

  /** Calls {@link run}, and repeats it while the server asks to wait. */
  async retry<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.run(ask);
      } catch (error) {
        if (!(error instanceof ServerError && error.retryAfter)) throw error;
      }
    }
  }

  /** Frees all slots, because the connection is lost. */
  reset(): void {
    this.#generation++;
    this.#freeSlots = MAX_RUNNING;
    this.#cancelPause?.();
    this.#cancelPause = undefined;
    for (const run of this.#waiting.splice(0)) run();
  }

  #runNext(): void {
    while (this.#freeSlots > 0 && !this.#cancelPause && this.#waiting.length > 0) {
      this.#freeSlots--;
      this.#waiting.shift()?.();
    }
  }

  #pauseFor(delay: number): void {
    this.#cancelPause?.();
    this.#cancelPause = this.#environment.after(delay, () => {
      this.#cancelPause = undefined;
      this.#runNext();
    });
  }
}

/** The maximum number of requests that are under way. */
const MAX_RUNNING = 16;
/** Milliseconds to wait for the answer to a former request. */
const ANSWER_TIMEOUT = 10_000;
