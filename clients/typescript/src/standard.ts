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
