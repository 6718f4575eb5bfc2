// The shares of a subscription: each call of `subscribe` is one share, and the subscription ends with the
// last.

import type { Subscribed } from "./channel.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import type { Position } from "./protocol.js";
import { type AbortSignalLike, onAbort } from "./runtime-types.js";

/** The fields with which the server confirms a subscription. */
type Confirmation = Pick<Subscribed, "position" | "recoverable">;

interface Share {
  /** Whether the subscription was confirmed since the share began. */
  isThere: boolean;
  /** Settles the promise of `subscribe`. Later calls have no effect. */
  readonly resolve: (confirmation: Confirmation) => void;
  readonly reject: (error: unknown) => void;
  /** Removes the listener of the signal. */
  readonly unlisten: () => void;
}

/** The shares of one subscription. */
export class Shares {
  readonly #shares = new Set<Share>();
  /** Called when the last share has ended. */
  readonly #onLastEnded: () => Promise<void>;

  constructor(ended: () => Promise<void>) {
    this.#onLastEnded = ended;
  }

  /** Adds a share. The promise settles with the subscription, or when the share ends before. */
  add(signal?: AbortSignalLike): Promise<Subscribed> {
    const { promise: subscribed, resolve, reject } = deferred<Subscribed>();
    const unsubscribe = async (reason?: unknown) => {
      if (
        this.#endShare(share, reason ?? new HauynaError("unsubscribed", "unsubscribed")) &&
        this.#shares.size === 0
      ) await this.#onLastEnded();
    };
    const share: Share = {
      isThere: false,
      resolve: (confirmation) => {
        share.isThere = true;
        resolve({ ...confirmation, unsubscribe: () => unsubscribe() });
      },
      reject: (error) => {
        // The application itself causes all other errors, or learns of them from the state of the client.
        if (!(error instanceof ServerError)) quiet(subscribed);
        reject(error);
      },
      unlisten: onAbort(signal, () => void unsubscribe(signal?.reason)),
    };
    this.#shares.add(share);
    return subscribed;
  }

  /** Confirms all shares. */
  settle(position: Position | undefined): void {
    for (const share of [...this.#shares]) share.resolve({ position, recoverable: position !== undefined });
  }

  /** Ends the unconfirmed shares. Returns true if there is no other. */
  refuse(error: HauynaError): boolean {
    const waiting = [...this.#shares].filter(({ isThere }) => !isThere);
    for (const share of waiting) this.#endShare(share, error);
    return waiting.length > 0 && this.#shares.size === 0;
  }

  /** Ends all shares, because the subscription has ended. */
  clear(error: HauynaError): void {
    for (const share of [...this.#shares]) this.#endShare(share, error);
  }

  /** Ends a share. Returns false if it had ended before. */
  #endShare(share: Share, error: unknown): boolean {
    share.unlisten();
    share.reject(error);
    return this.#shares.delete(share);
  }
}
