// How long to wait before coming back: full jitter, so that many clients lost at once come back spread.

import { ServerError } from "./error.js";
import type { RetryTerms } from "./face.js";

/** The delay in milliseconds before attempt `attempt`, the first being 1; `random` is at least 0 and below 1. */
export function delay(terms: RetryTerms, attempt: number, random: number): number {
  const longest = Math.min(terms.maxDelay, terms.baseDelay * terms.backoffMultiplier ** (attempt - 1), FOREVER);
  // A policy that is none does not make a client hurry.
  return random * (longest > 0 ? longest : retryTerms.maxDelay);
}

/** The delay in milliseconds before what was refused for now is asked again: as long as the server says, within bounds, else a second. */
export function delayAfter(error: unknown): number {
  return Math.min(Math.max((error instanceof ServerError && error.retryAfter) || 1000, 50), 60_000);
}

/** How to come back until the server says: never giving up, 1 s × 2 up to 30 s. */
export const retryTerms: RetryTerms = { baseDelay: 1000, maxDelay: 30_000, backoffMultiplier: 2 };

/** Milliseconds: more than anybody waits, and less than what no number holds. */
const FOREVER = 2 ** 40;

/** How long a connection lasts, in milliseconds, before the attempts that led to it are forgotten. */
export const STABLE = 30_000;
