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
export function createStore<T>(
  get: () => T,
  start: (changed: () => void) => Unsubscribe,
  initial: T = get(),
  clock: Clock = PROCESS_CLOCK,
): Store<T> {
  const listeners = new Set<() => void>();
  let stop: Unsubscribe | undefined;
  let cancelStop = nothing;
  let isNotificationDue = false;
  const notify = () => {
    isNotificationDue = false;
    for (const listener of [...listeners]) if (listeners.has(listener)) callSafely(listener);
  };
  const changed = () => {
    if (!isNotificationDue) clock.after(FRAME, notify);
    isNotificationDue = true;
  };
  return {
    get,
    initial,
    subscribe(listener) {
      const entry = () => listener();
      listeners.add(entry);
      cancelStop();
      if (!stop) {
        // A callback of `start` may add another listener.
        let end = nothing;
        stop = () => end();
        end = start(changed);
      }
      return () => {
        if (!listeners.delete(entry) || listeners.size > 0) return;
        cancelStop = clock.after(0, () => {
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
function callSafely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Returns a function that calls all of these. */
export function endAll(...removals: Unsubscribe[]): Unsubscribe {
  return () => removals.forEach((remove) => remove());
}

/** Does nothing. */
export const nothing = (): void => {};

const PROCESS_CLOCK: Clock = {
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
