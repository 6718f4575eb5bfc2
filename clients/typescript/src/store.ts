// A store: a value that changes, in the form that React, Vue and Svelte read. It is the base of everything
// that the bindings offer, and independent of channels.

import type { Environment, Unsubscribe } from "hauyna";

/** A value that changes. It is kept up to date only while it has listeners. */
export interface Store<T> {
  /** Returns the value: an immutable snapshot, the same object until something changes. */
  get(): T;
  /** Calls `listener` after changes, at most once in 16 ms, until the returned function is called. */
  subscribe(listener: () => void): Unsubscribe;
  /** The value on a rendering server, and in the page until it is hydrated. */
  readonly initial: T;
}

/** The timers of a store: those of its client, which a test may control. */
export type Clock = Pick<Environment, "after">;

/**
 * Creates a store. `start` starts the work with the first listener, and returns a function that ends it. The
 * work continues for a moment after the last listener, so that a component that is mounted again (StrictMode,
 * a route, a hot reload) finds it running.
 */
export function createStore<T>(get: () => T, start: (changed: () => void) => Unsubscribe, initial: T = get(), clock: Clock = PROCESS): Store<T> {
  const listeners = new Set<() => void>();
  let stop: Unsubscribe | undefined;
  let keep = nothing;
  let isDue = false;
  const notify = () => {
    isDue = false;
    for (const listener of [...listeners]) if (listeners.has(listener)) safely(listener);
  };
  const changed = () => {
    if (!isDue) clock.after(FRAME, notify);
    isDue = true;
  };
  return {
    get,
    initial,
    subscribe(listener) {
      const own = () => listener();
      listeners.add(own);
      keep();
      if (!stop) {
        // A callback of `start` may add another listener.
        let end = nothing;
        stop = () => end();
        end = start(changed);
      }
      return () => {
        if (!listeners.delete(own) || listeners.size > 0) return;
        keep = clock.after(0, () => {
          // A callback of `end` may add another listener.
          const end = stop;
          stop = undefined;
          end?.();
        });
      };
    },
  };
}

/** Calls a listener. If it throws, the other listeners are still called. */
function safely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Returns a function that calls all of these. */
export function endAll(...offs: Unsubscribe[]): Unsubscribe {
  return () => offs.forEach((off) => off());
}

/** Does nothing. */
export const nothing = (): void => {};

const PROCESS: Clock = {
  after(delay, run) {
    const timer = setTimeout(run, delay);
    return () => clearTimeout(timer);
  },
};

/**
 * Milliseconds. It is not an animation frame, because those stop in hidden tabs, whose titles may show a
 * number of messages.
 */
export const FRAME = 16;
