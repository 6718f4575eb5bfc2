// The environment of a client: time, randomness, the network, the page. It is an interface, so that tests can
// replace it.

/** A change of the network or the page. */
export type Signal = "online" | "offline" | "visible";

/** Time, randomness, and the browser's knowledge of the network and the page. */
export interface Environment {
  /** Returns the time in milliseconds since the Unix epoch. */
  now(): number;
  /** Returns a random number that is at least 0 and below 1. */
  random(): number;
  /** Calls `run` once after `delay` milliseconds. The returned function cancels the call. */
  after(delay: number, run: () => void): () => void;
  /** Returns false only if there is certainly no network. */
  isOnline(): boolean;
  /** Calls `listener` for every signal, until the returned function is called. */
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
      // The browser shows a page again that it had in its cache.
      [globalThis, "pageshow", visible],
      [page, "visibilitychange", visible],
    ];
    for (const [where, event, tell] of watched) where?.addEventListener?.(event, tell);
    return () => {
      for (const [where, event, tell] of watched) where?.removeEventListener?.(event, tell);
    };
  },
};

/** Returns the given duration or number, at least 0, or `or` if it is missing or not a number. */
export function amount(given: number | undefined, or: number): number {
  const value = Math.max(0, given ?? NaN);
  return value >= 0 ? value : or;
}

/**
 * Returns a random name. `crypto` comes first, because pages may replace `Math.random` with a predictable
 * source.
 */
export function unique({ random }: Environment): string {
  const bytes = new Uint8Array(15);
  if (globalThis.crypto?.getRandomValues) globalThis.crypto.getRandomValues(bytes);
  else for (const index of bytes.keys()) bytes[index] = random() * 256;
  return Array.from(bytes, (byte) => byte.toString(36)).join("");
}

// The longest delay of a browser's timer: 31 bits.
const MAX_DELAY = 2 ** 31 - 1;
