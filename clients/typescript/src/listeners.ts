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
  readonly #byEvent = new Map<string, Set<(value: never) => void>>();
  /** Called when a listener was added or removed. */
  readonly #onChange: () => void;

  constructor(logger: Logger, changed = () => {}) {
    this.#logger = logger;
    this.#onChange = changed;
  }

  get isEmpty(): boolean {
    return this.#byEvent.size === 0;
  }

  add(event: string, listener: (value: never) => void): Unsubscribe {
    const listeners = this.#byEvent.get(event) ?? new Set();
    this.#byEvent.set(event, listeners);
    const entry = (value: never) => listener(value);
    listeners.add(entry);
    this.#onChange();
    return () => {
      listeners.delete(entry);
      if (listeners.size === 0 && this.#byEvent.get(event) === listeners) this.#byEvent.delete(event);
      this.#onChange();
    };
  }

  /**
   * Calls every listener, until `isCurrent` returns false because a listener has changed the reported state.
   */
  emit(event: string, value: unknown, isCurrent = () => true): void {
    const listeners = this.#byEvent.get(event) ?? new Set();
    const failed = (error: unknown) => this.#logger.error(`a listener of ${event} failed`, { error });
    for (const listener of [...listeners] as ((value: unknown) => unknown)[]) {
      // An earlier listener may have removed this one.
      if (!listeners.has(listener) || !isCurrent()) continue;
      try {
        const result = listener(value);
        if (result instanceof Promise) result.catch(failed);
      } catch (error) {
        failed(error);
      }
    }
  }
}
