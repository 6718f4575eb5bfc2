// Who listens to what. A listener that fails is logged, and costs the others nothing.

import type { Logger } from "./logger.js";

/** Ends what it was returned by. */
export type Unsubscribe = () => void;

/** The event that a message of this type is; the client's own events have names without quotes. */
export function on(type: string): string {
  // Mostly the same: a string that is made again has to be hashed again.
  if (type !== lastType) lastEvent = `"${(lastType = type)}"`;
  return lastEvent;
}

let lastType = "";
let lastEvent = '""';

/** The listeners of any number of events, by name. */
export class Listeners {
  readonly #logger: Logger;
  readonly #all = new Map<string, Set<(value: never) => void>>();
  /** Called when a listener was added or removed. */
  readonly #changed: () => void;

  constructor(logger: Logger, changed = () => {}) {
    this.#logger = logger;
    this.#changed = changed;
  }

  get isEmpty(): boolean {
    return this.#all.size === 0;
  }

  add(event: string, listener: (value: never) => void): Unsubscribe {
    const own = this.#all.get(event) ?? new Set();
    this.#all.set(event, own);
    const one = (value: never) => listener(value);
    own.add(one);
    this.#changed();
    return () => {
      own.delete(one);
      if (own.size === 0 && this.#all.get(event) === own) this.#all.delete(event);
      this.#changed();
    };
  }

  /** Tells everybody, or until `isCurrent` does not hold any more: who is told may have changed what is told. */
  emit(event: string, value: unknown, isCurrent = () => true): void {
    const all = this.#all.get(event) ?? new Set();
    const failed = (error: unknown) => this.#logger.error(`a listener of ${event} failed`, { error });
    for (const listener of [...all] as ((value: unknown) => unknown)[]) {
      // Unless one before has ended it.
      if (!all.has(listener) || !isCurrent()) continue;
      try {
        const work = listener(value);
        if (work instanceof Promise) work.catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }
}
