// How subscriptions are asked for and given up, and gaps filled: a few of a kind at a time, in order, and none while the server has
// asked that kind to wait.

import { delayAfter } from "./backoff.js";
import type { Environment } from "./environment.js";
import { ServerError } from "./error.js";
import { unconnected } from "./outbox.js";

/** Lets a few requests pass at a time, in the order in which they come. */
export class Gate {
  readonly #environment: Environment;
  #free = AT_ONCE;
  readonly #waiting: (() => void)[] = [];
  /** Ends the pause that the server has asked for. */
  #pause: (() => void) | undefined;
  /** Changes with the connection: what an earlier one has asked takes no place any more. */
  #turn = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /**
   * Runs it when there is a place, and not before `former` is settled or late; fails where the connection is
   * lost before.
   */
  async pass<T>(ask: () => Promise<T>, former?: Promise<unknown>): Promise<T> {
    const turn = this.#turn;
    if (former) {
      let cancel = () => {};
      const late = new Promise<void>((resolve) => (cancel = this.#environment.after(ANSWER, resolve)));
      await Promise.race([former.catch(() => {}), late]);
      cancel();
      if (turn !== this.#turn) throw unconnected();
    }
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

  /** As {@link pass}, and again where the server has asked to wait. */
  async insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await this.pass(ask);
      } catch (error) {
        if (!(error instanceof ServerError && error.retryAfter)) throw error;
      }
    }
  }

  /** The connection is lost: nothing is under way any more. */
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

/** Requests that are under way at a time. */
const AT_ONCE = 16;
/** Milliseconds for the answer to a request that another one waits for. */
const ANSWER = 10_000;
