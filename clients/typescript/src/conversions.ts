// Converts the fields of the wire, which are in snake_case, to the names that applications use.

import type { Device } from "./presence.js";
import type { RetryMessage, SessionMessage } from "./protocol.js";

/** A reconnect policy. Delays are in milliseconds. */
export interface RetryTerms {
  /** Failed attempts after which the client gives up. Default: no limit. */
  readonly maxAttempts?: number | undefined;
  /** The maximum delay before the first attempt. */
  readonly baseDelay: number;
  /** The maximum delay before any attempt. */
  readonly maxDelay: number;
  /** The factor by which the maximum delay grows with each attempt. */
  readonly backoffMultiplier: number;
  /** The part of the delay that clients without full jitter vary at random. This client ignores it. */
  readonly jitter?: number | undefined;
}

/** The session of a connection. */
export interface SessionInfo {
  readonly connectionId: string;
  readonly user: string;
  /** Whether the session of the previous connection was resumed. */
  readonly resumed: boolean;
  /** The server's reconnect policy. */
  readonly retry?: RetryTerms | undefined;
  /** When the credentials expire, in milliseconds since the Unix epoch by the server's clock. */
  readonly expiresAt?: number | undefined;
  /** The remaining lifetime of the credentials when the session began, in milliseconds. */
  readonly expiresIn?: number | undefined;
  /** The size of the largest message that the server accepts, in encoded bytes. */
  readonly maxMessage?: number | undefined;
}

export function termsOf(message: RetryMessage): RetryTerms {
  const { max_attempts, base_delay, max_delay, backoff_multiplier, jitter } = message;
  return { maxAttempts: max_attempts, baseDelay: base_delay, maxDelay: max_delay, backoffMultiplier: backoff_multiplier, jitter };
}

export function sessionOf({ connection_id, user, resumed, retry, expires_at, expires_in, limits }: SessionMessage): SessionInfo {
  return {
    connectionId: connection_id,
    user,
    resumed: resumed === true,
    retry: retry && termsOf(retry),
    expiresAt: expires_at,
    expiresIn: expires_in,
    maxMessage: limits?.max_message,
  };
}

/** One connection of a member, on the wire. */
export interface DeviceMessage {
  readonly connection_id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly joined_at: number;
}

export function deviceOf({ connection_id, metadata, joined_at }: DeviceMessage): Device {
  return { connectionId: connection_id, metadata, joinedAt: joined_at };
}
