// The parts of standard types that the client's interface uses. Its declarations compile without a library
// that declares them, as in a Node project without Node's types, and with every TypeScript from 5.0 on.

/** An `AbortSignal` of any runtime. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** A `URL` of any runtime. */
export interface UrlLike {
  readonly href: string;
  toString(): string;
}

/** Calls `run` when the signal is aborted, unless the returned function was called before. */
export function onAbort(signal: AbortSignalLike | undefined, run: () => void): () => void {
  signal?.addEventListener("abort", run);
  return () => signal?.removeEventListener("abort", run);
}

/**
 * Returns the absolute address of a WebSocket. The page's address is read only now, because a rendering
 * server has none.
 */
export function absolute(url: string | UrlLike): string {
  const { href } = new URL(`${url}`, globalThis.location?.href);
  // React Native's URL appends a slash to the path, accepts invalid addresses, and is immutable.
  const address = (/^\w+:/.test(`${url}`) ? `${url}` : href).replace(/^http/i, "ws");
  if (!/^wss?:/i.test(address)) throw new TypeError();
  return address;
}
