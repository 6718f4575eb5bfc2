// How subscriptions are asked for: a few at a time, and none while the server has asked to wait.

import { delayAfter } from "./backoff.js";
import type { Environment } from "./environment.js";
import { ServerError } from "./error.js";

/** Lets a few requests pass at a time. */
export class Gate {
  readonly #environment: Environment;
  #free = AT_ONCE;
  #waiting: (() => void)[] = [];
  /** Ends the pause that the server has asked for. */
  #pause: (() => void) | undefined;
  /** Changes with the connection: what an earlier one has asked takes no place any more. */
  #turn = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Runs it when there is a place. */
  async pass<T>(ask: () => Promise<T>): Promise<T> {
    while (this.#pause || this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const turn = this.#turn;
    this.#free--;
    try {
      return await ask();
    } catch (error) {
      if (turn === this.#turn && error instanceof ServerError && error.retryAfter) this.#wait(delayAfter(error));
      throw error;
    } finally {
      if (turn === this.#turn) {
        this.#free++;
        this.#waiting.shift()?.();
      }
    }
  }

  /** The connection is lost: nothing is under way any more. */
  reset(): void {
    this.#turn++;
    this.#free = AT_ONCE;
    this.#resume();
  }

  #wait(delay: number): void {
    this.#pause?.();
    this.#pause = this.#environment.after(delay, () => this.#resume());
  }

  #resume(): void {
    this.#pause?.();
    this.#pause = undefined;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Subscriptions that are asked for at a time. */
const AT_ONCE = 16;
