// What the wire writes in snake_case, as applications read it.

import type { Device } from "./presence.js";
import type { RetryMessage, SessionMessage } from "./protocol.js";

/** How a client comes back after a loss; delays in milliseconds. */
export interface RetryTerms {
  /** Attempts before the client gives up; without it, it never does. */
  readonly maxAttempts?: number | undefined;
  /** The longest delay before the first attempt. */
  readonly baseDelay: number;
  /** The longest delay before any attempt. */
  readonly maxDelay: number;
  /** How much longer each delay may be than the one before. */
  readonly backoffMultiplier: number;
  /** What the server's policy says for clients without full jitter, as a part of the delay. This client ignores it. */
  readonly jitter?: number | undefined;
}

/** The session of a connection. */
export interface SessionInfo {
  readonly connectionId: string;
  readonly user: string;
  /** The session is that of the connection before. */
  readonly resumed: boolean;
  /** The server's retry policy. */
  readonly retry?: RetryTerms | undefined;
  /** When the credentials end, in milliseconds since the Unix epoch by the server's clock. */
  readonly expiresAt?: number | undefined;
  /** In how many milliseconds that was when the session began. */
  readonly expiresIn?: number | undefined;
  /** Bytes of the largest message that the server takes, as it is encoded. */
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

/** One connection of somebody who is present, on the wire. */
export interface DeviceMessage {
  readonly connection_id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly joined_at: number;
}

export function deviceOf({ connection_id, metadata, joined_at }: DeviceMessage): Device {
  return { connectionId: connection_id, metadata, joinedAt: joined_at };
}
