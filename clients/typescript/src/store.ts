// A value that changes, as React, Vue and Svelte read it: the base of everything that the bindings show. Knows nothing of
// channels.

import type { Environment, Unsubscribe } from "hauyna";

/** A value that changes, with work behind it that runs only while somebody listens. */
export interface Store<T> {
  /** The value: an immutable snapshot, the same object until something changes. */
  get(): T;
  /** Calls `listener` after changes, at most once in 16 ms, until the returned function is called. */
  subscribe(listener: () => void): Unsubscribe;
  /** The value on a server that renders pages, and on the page until it is hydrated. */
  readonly initial: T;
}

/** How time passes for a store: as for its client, whose time a test may turn. */
export type Clock = Pick<Environment, "after">;

/**
 * Makes a store. `start` begins the work with the first listener, and returns what ends it. The work outlives the last
 * listener for a moment: a component that is mounted again (StrictMode, a route, a hot reload) finds it running.
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
        // Whoever is told that it begins may listen, too.
        let end = nothing;
        stop = () => end();
        end = start(changed);
      }
      return () => {
        if (!listeners.delete(own) || listeners.size > 0) return;
        keep = clock.after(0, () => {
          // Whoever is told that it ends may listen again.
          const end = stop;
          stop = undefined;
          end?.();
        });
      };
    },
  };
}

/** A listener that fails costs the others nothing. */
function safely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Ends all of these. */
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

/** Milliseconds. Not an animation frame: those stop in hidden tabs, whose titles count messages. */
export const FRAME = 16;
