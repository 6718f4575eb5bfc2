// The environment of a client: time, chance, the network, the page. An interface, so that tests can turn them.

/** What the environment tells. */
export type Signal = "online" | "offline" | "visible";

/** Time, chance, and what the browser knows of the network and the page. */
export interface Environment {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** A number from 0 up to, but not including, 1. */
  random(): number;
  /** Calls `run` once, after `delay` milliseconds, unless the returned function was called before. */
  after(delay: number, run: () => void): () => void;
  /** False only where it is certain that there is no network. */
  isOnline(): boolean;
  /** Reports every signal, until the returned function is called. */
  watch(listener: (signal: Signal) => void): () => void;
}

/** The real environment, in a browser or outside of one. */
export const defaultEnvironment: Environment = {
  now: () => Date.now(),
  random: () => Math.random(),
  after(delay, run) {
    let timer: ReturnType<typeof setTimeout>;
    const wait = (left: number) => {
      timer = setTimeout(() => (left > MAX_DELAY ? wait(left - MAX_DELAY) : run()), Math.min(left, MAX_DELAY));
    };
    wait(delay);
    return () => clearTimeout(timer);
  },
  isOnline: () => globalThis.navigator?.onLine !== false,
  watch(listener) {
    const page = globalThis.document;
    const visible = () => page?.visibilityState === "visible" && listener("visible");
    const watched: [Partial<EventTarget> | undefined, string, () => void][] = [
      [globalThis, "online", () => listener("online")],
      [globalThis, "offline", () => listener("offline")],
      // A page that comes back from the browser's cache.
      [globalThis, "pageshow", visible],
      [page, "visibilitychange", visible],
    ];
    for (const [where, event, tell] of watched) where?.addEventListener?.(event, tell);
    return () => {
      for (const [where, event, tell] of watched) where?.removeEventListener?.(event, tell);
    };
  },
};

/** A duration or a number as somebody gave it: at least 0, and `or` where it is none. */
export function amount(given: number | undefined, or: number): number {
  const least = Math.max(0, given ?? NaN);
  return least >= 0 ? least : or;
}

/** A name that no other client has. Pages may replace `Math.random` by a source that repeats itself. */
export function unique({ random }: Environment): string {
  const bytes = new Uint8Array(15);
  if (globalThis.crypto?.getRandomValues) globalThis.crypto.getRandomValues(bytes);
  else for (const at of bytes.keys()) bytes[at] = random() * 256;
  return Array.from(bytes, (byte) => byte.toString(36)).join("");
}

// Timers of browsers hold 31 bits.
const MAX_DELAY = 2 ** 31 - 1;
