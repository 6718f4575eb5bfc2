// The parts of the browser that pages and the shared worker use: time, the network, locks, the end of the
// page. It is an interface, so that tests can replace it.

import { type Environment, type WebSocketConstructor, defaultEnvironment } from "hauyna";

/** One end of a port between a page and the worker. */
export interface PortLike {
  onmessage: ((event: never) => void) | null;
  /** Called when the other end is gone, in browsers that report it. */
  onclose?: ((event: never) => void) | null;
  postMessage(message: unknown): void;
}

/** The part of `navigator.locks` that is used here. */
export interface LocksLike {
  request(name: string, held: () => unknown): Promise<unknown>;
}

/** The browser of a page or a worker. */
export interface SharedHost {
  readonly environment: Environment;
  /** The locks, which only secure origins have. */
  readonly locks: LocksLike | undefined;
  /** The class of the sockets to the server. Default: the browser's. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /**
   * Calls `listener` with false when the page ends or enters the browser's cache, and with true when it
   * returns.
   */
  onShown(listener: (isShown: boolean) => void): void;
}

/** The real browser. */
export const realBrowser: SharedHost = {
  environment: defaultEnvironment,
  get locks() {
    return globalThis.navigator?.locks as LocksLike | undefined;
  },
  onShown(listener) {
    globalThis.addEventListener?.("pagehide", () => listener(false));
    globalThis.addEventListener?.("pageshow", () => listener(true));
  },
};

/** Holds a new lock until the returned function is called. The name is undefined if there are no locks. */
export async function holdLock({ locks }: SharedHost, prefix: string): Promise<{ name: string | undefined; release: () => void }> {
  const name = `${prefix} ${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const isHeld = await new Promise<boolean>((resolve) => {
    // The browser refuses locks if it keeps no state for this page.
    if (!locks) return resolve(false);
    locks.request(name, () => (resolve(true), held)).catch(() => resolve(false));
  });
  return { name: isHeld ? name : undefined, release };
}

/** Calls `run` when the holder of this lock is gone. */
export function whenReleased({ locks }: SharedHost, name: string | undefined, run: () => void): void {
  if (locks && name !== undefined) locks.request(name, run).catch(() => {});
}
