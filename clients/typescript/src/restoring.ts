// Limits the requests of one kind: a few are under way at a time, in order, and none while the server has
// asked this kind to wait.

import { delayAfter } from "./backoff.js";
import type { Environment } from "./environment.js";
import { ServerError } from "./error.js";
import { unconnected } from "./outbox.js";

/** Lets a few requests run at a time, in the order of their arrival. */
export class Gate {
  readonly #environment: Environment;
  #free = AT_ONCE;
  readonly #waiting: (() => void)[] = [];
  /** Cancels the pause that the server has asked for. */
  #pause: (() => void) | undefined;
  /** Increases with each loss of the connection. Requests of an earlier generation hold no slot. */
  #turn = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Runs `ask` when a slot is free. Fails if the connection is lost before. */
  pass<T>(ask: () => Promise<T>): Promise<T> {
    const turn = this.#turn;
    return new Promise((resolve, reject) => {
      this.#waiting.push(async () => {
        if (turn !== this.#turn) return reject(unconnected());
        try {
          resolve(await ask());
        } catch (error) {
          if (turn === this.#turn && error instanceof ServerError && error.retryAfter) this.#wait(delayAfter(error));
          reject(error);
        }
        if (turn !== this.#turn) return;
        this.#free++;
        this.#next();
      });
      this.#next();
    });
  }

  /** Calls {@link pass}, and repeats it while the server asks to wait. */
  async insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.pass(ask);
      } catch (error) {
        if (!(error instanceof ServerError && error.retryAfter)) throw error;
      }
    }
  }

  /** Frees all slots, because the connection is lost. */
  reset(): void {
    this.#turn++;
    this.#free = AT_ONCE;
    this.#pause?.();
    this.#pause = undefined;
    for (const run of this.#waiting.splice(0)) run();
  }

  #next(): void {
    while (this.#free > 0 && !this.#pause && this.#waiting.length > 0) {
      this.#free--;
      this.#waiting.shift()?.();
    }
  }

  #wait(delay: number): void {
    this.#pause?.();
    this.#pause = this.#environment.after(delay, () => {
      this.#pause = undefined;
      this.#next();
    });
  }
}

/** The maximum number of requests that are under way. */
const AT_ONCE = 16;
