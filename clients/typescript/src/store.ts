// A value that changes, as React, Vue and Svelte read it: the base of everything that the bindings show. Knows nothing of
// channels.

import type { Off } from "hauyna";

/** A value that changes, with work behind it that runs only while somebody listens. */
export interface Store<T> {
  /** The value: an immutable snapshot, the same object until something changes. */
  get(): T;
  /** Calls `listener` after changes, at most once in 16 ms, until the returned function is called. */
  subscribe(listener: () => void): Off;
  /** The value on a server that renders pages, and on the page until it is hydrated. */
  readonly initial: T;
}

/**
 * Makes a store. `start` begins the work with the first listener, and returns what ends it. The work outlives the last
 * listener for a moment: a component that is mounted anew (StrictMode, a route, a hot reload) finds it running.
 */
export function createStore<T>(get: () => T, start: (changed: () => void) => Off, initial: T = get()): Store<T> {
  const listeners = new Set<() => void>();
  let stop: Off | undefined;
  let ending: Timer;
  let frame: Timer;
  const notify = () => {
    frame = undefined;
    for (const listener of [...listeners]) if (listeners.has(listener)) listener();
  };
  return {
    get,
    initial,
    subscribe(listener) {
      const own = () => listener();
      listeners.add(own);
      clearTimeout(ending);
      stop ??= start(() => (frame ??= setTimeout(notify, FRAME)));
      return () => {
        if (!listeners.delete(own) || listeners.size > 0) return;
        ending = setTimeout(() => {
          stop?.();
          stop = undefined;
        });
      };
    },
  };
}

/** Ends all of these. */
export function endAll(...offs: Off[]): Off {
  return () => offs.forEach((off) => off());
}

/** Does nothing. */
export const nothing = (): void => {};

export type Timer = ReturnType<typeof setTimeout> | undefined;

/** Milliseconds. Not an animation frame: those stop in hidden tabs, whose titles count messages. */
const FRAME = 16;
