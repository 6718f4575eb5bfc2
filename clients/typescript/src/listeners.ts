// The listeners of events. A listener that throws is logged, and the other listeners are still called.

import type { Logger } from "./logger.js";

/** Removes the listener, or ends the work, that the call which returned it has started. */
export type Unsubscribe = () => void;

/**
 * Returns the name of the event for messages of this type. The client's own events have names without quotes.
 */
export function on(type: string): string {
  // Consecutive messages mostly have the same type, and a new string would have to be hashed again.
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

  /**
   * Calls every listener, until `isCurrent` returns false because a listener has changed the reported state.
   */
  emit(event: string, value: unknown, isCurrent = () => true): void {
    const all = this.#all.get(event) ?? new Set();
    const failed = (error: unknown) => this.#logger.error(`a listener of ${event} failed`, { error });
    for (const listener of [...all] as ((value: unknown) => unknown)[]) {
      // An earlier listener may have removed this one.
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
