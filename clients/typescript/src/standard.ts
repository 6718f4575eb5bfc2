// As much of a page's standard types as the face of this client uses: its declarations compile where no library
// declares them, as in a Node project without its types, and with every TypeScript from 5.0 on.

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

/** Looked up when it is needed: where a page is rendered on a server, there is none to be relative to. */
export function absolute(url: string | UrlLike): string {
  const { href } = new URL(`${url}`, globalThis.location?.href);
  // React Native's URL appends a slash to a path, takes what is no address, and cannot be changed.
  const address = (/^\w+:/.test(`${url}`) ? `${url}` : href).replace(/^http/i, "ws");
  if (!/^wss?:/i.test(address)) throw new TypeError();
  return address;
}
