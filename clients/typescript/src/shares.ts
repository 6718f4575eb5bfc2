// Who has subscribed to a channel: each call of `subscribe` is a share, and the subscription ends with the last one.

import type { Subscribed } from "./channel.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import type { Position } from "./protocol.js";
import { type AbortSignalLike, onAbort } from "./standard.js";

/** Where a subscription stands. */
type Standing = Pick<Subscribed, "position" | "recoverable">;

interface Share {
  /** The subscription was there since it began. */
  isThere: boolean;
  /** Settles the promise of `subscribe`; later calls change nothing. */
  readonly resolve: (standing: Standing) => void;
  readonly reject: (error: unknown) => void;
  /** Stops listening to the signal. */
  readonly unlisten: () => void;
}

/** The shares of one subscription. */
export class Shares {
  readonly #all = new Set<Share>();
  /** Called when the last share has been given up. */
  readonly #ended: () => Promise<void>;

  constructor(ended: () => Promise<void>) {
    this.#ended = ended;
  }

  /** Adds a share. The promise is settled with the subscription, or when the share is given up before. */
  add(signal?: AbortSignalLike): Promise<Subscribed> {
    const { promise: answer, resolve, reject } = deferred<Subscribed>();
    const unsubscribe = async (reason?: unknown) => {
      if (this.#end(share, reason ?? new HauynaError("unsubscribed", "unsubscribed")) && this.#all.size === 0) await this.#ended();
    };
    const share: Share = {
      isThere: false,
      resolve: (standing) => {
        share.isThere = true;
        resolve({ ...standing, unsubscribe: () => unsubscribe() });
      },
      reject: (error) => {
        // All others are of the application's own making, or told by the state of the client.
        if (!(error instanceof ServerError)) quiet(answer);
        reject(error);
      },
      unlisten: onAbort(signal, () => void unsubscribe(signal?.reason)),
    };
    this.#all.add(share);
    return answer;
  }

  /** The subscription is there. */
  settle(position: Position | undefined): void {
    for (const share of [...this.#all]) share.resolve({ position, recoverable: position !== undefined });
  }

  /** Ends the shares that still wait. True where there is no other. */
  refuse(error: HauynaError): boolean {
    const waiting = [...this.#all].filter(({ isThere }) => !isThere);
    for (const share of waiting) this.#end(share, error);
    return waiting.length > 0 && this.#all.size === 0;
  }

  /** The subscription has ended, for everybody. */
  clear(error: HauynaError): void {
    for (const share of [...this.#all]) this.#end(share, error);
  }

  /** False where it had ended before. */
  #end(share: Share, error: unknown): boolean {
    share.unlisten();
    share.reject(error);
    return this.#all.delete(share);
  }
}
