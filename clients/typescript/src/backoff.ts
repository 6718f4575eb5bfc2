// The delay before the next attempt: exponential backoff with full jitter, so that many clients that were
// lost at the same moment do not reconnect at the same moment.

import { ServerError } from "./error.js";
import type { RetryTerms } from "./conversions.js";

/**
 * Returns the delay in milliseconds before attempt `attempt`, counted from 1. `random` is at least 0 and
 * below 1.
 */
export function delayBefore(terms: RetryTerms, attempt: number, random: number): number {
  const maxDelay = Math.min(terms.maxDelay, terms.baseDelay * terms.backoffMultiplier ** (attempt - 1), MAX_DELAY);
  // An invalid policy must not make the client reconnect without a delay.
  return random * (maxDelay > 0 ? maxDelay : retryTerms.maxDelay);
}

/**
 * Returns the delay in milliseconds before a request is repeated that was refused with a temporary error: the
 * server's `retry_after`, limited to between 50 ms and a minute, or one second without it.
 */
export function delayAfter(error: unknown): number {
  return Math.min(Math.max((error instanceof ServerError && error.retryAfter) || 1000, 50), 60_000);
}

/** The policy until the server sends its own: 1 s × 2 up to 30 s, without a limit of attempts. */
export const retryTerms: RetryTerms = { baseDelay: 1000, maxDelay: 30_000, backoffMultiplier: 2 };

/** Milliseconds. Limits the delay where the multiplication overflows. */
const MAX_DELAY = 2 ** 40;

/**
 * Milliseconds that a connection has to last before the delay of the next attempt starts from the beginning.
 */
export const STABLE_AFTER = 30_000;
