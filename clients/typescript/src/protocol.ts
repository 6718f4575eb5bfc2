// What `hauyna.v1` says on the wire: messages, positions, error types, close codes. No behaviour but the rule
// which close code means to come back. PROTOCOL.md is the norm, its fixtures are the test.

/** A moment in the life of a channel's stream: an offset means nothing under another epoch. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** How a client comes back after a loss, in `session.retry` and `retry_policy`; delays in milliseconds. */
export interface RetryMessage {
  readonly max_attempts?: number;
  readonly base_delay: number;
  readonly max_delay: number;
  readonly backoff_multiplier: number;
  readonly jitter?: number;
}

/** How often the server is heard, and after which silence the connection is lost; milliseconds. */
export interface Heartbeat {
  readonly interval: number;
  readonly timeout: number;
}

/** Why a channel could not be brought up to date. */
export type RecoveryReason = "epoch_changed" | "too_old" | "too_many" | "unknown_position";

/** What the server says about one subscription. */
export interface SubscriptionEntry {
  readonly channel: string;
  readonly epoch?: string;
  readonly offset?: number;
  /** The channel keeps a history, from which a reconnect recovers. */
  readonly recoverable: boolean;
  readonly recovered?: boolean;
  readonly reason?: RecoveryReason;
  /** The types of client events that the channel takes, and how many a second of each. */
  readonly client_events?: Readonly<Record<string, number>>;
}

/** The first message of a connection. */
export interface SessionMessage {
  readonly type: "session";
  readonly connection_id: string;
  readonly user: string;
  readonly resumed?: boolean;
  readonly resume?: { readonly token: string; readonly window?: number };
  readonly heartbeat?: Heartbeat;
  readonly retry?: RetryMessage;
  readonly subscriptions?: readonly SubscriptionEntry[];
  /** When the credentials end, in milliseconds since the Unix epoch. */
  readonly expires_at?: number;
  /** How many milliseconds the credentials still live. */
  readonly expires_in?: number;
  /** What the server takes: `max_message` is the largest message, in bytes as it is encoded. */
  readonly limits?: { readonly max_message?: number };
}

/** Any message of the server: its type, and fields that depend on it. */
export interface ServerMessage {
  readonly type: string;
  readonly [field: string]: unknown;
}

/**
 * The type of a message of the protocol; none of one that is for listeners, whatever its type: an application may use any
 * in a channel. What the protocol says of a channel has one of a few types and, but for changes of presence, no `timestamp`.
 */
export function typeOf({ type, channel, timestamp, event }: ServerMessage): string | undefined {
  // Publications leave here, several times each: without looking at their type.
  if (channel !== undefined && timestamp !== undefined && !(event && type === "presence_change")) return undefined;
  return channel === undefined || OF_CHANNELS.test(type) ? type : undefined;
}

const OF_CHANNELS = /^((un)?subscribed|presence_(state|change|diff)|occupancy|gap|client_event)$/;

/** The contract of a refusal. Types may be added: an unknown one is treated by its `temporary`. */
export type ErrorType =
  | "parse_error"
  | "validation_error"
  | "unknown_event"
  | "unauthorized"
  | "token_expired"
  | "permission_denied"
  | "not_subscribed"
  | "already_subscribed"
  | "unknown_user"
  | "limit_exceeded"
  | "rate_limited"
  | "payload_too_large"
  | "timeout"
  | "unavailable"
  | "application_error"
  | "internal_error";

/** An `error` message of the server. */
export interface ErrorMessage {
  readonly type: "error";
  readonly error_type: ErrorType | (string & {});
  readonly message: string;
  readonly timestamp: number;
  readonly id?: number | string;
  readonly temporary: boolean;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Subscribers of a channel that announces them. */
export interface ChannelEvent {
  readonly type: "channel_event";
  readonly event: "subscription_added" | "subscription_removed" | "subscription_reconnected" | (string & {});
  readonly channel: string;
  readonly user: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Whether a client comes back after this close code: the number's range alone decides. */
export function shouldReconnect(code: number): boolean {
  return code < 3000 ? !STAY_AWAY.includes(code) : code % 1000 < 500;
}

// RFC 6455, 7.4.1: what would only happen again.
const STAY_AWAY = [1000, 1002, 1003, 1007, 1008, 1010];
