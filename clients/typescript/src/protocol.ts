// The messages of `hauyna.v1` on the wire: messages, positions, error types, close codes. The only behaviour
// is the rule for which close codes a client reconnects. PROTOCOL.md is the specification, and its fixtures
// are the tests.

/** A position in a channel's stream. Offsets of different epochs cannot be compared. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
}

/** A reconnect policy, in `session.retry` and `retry_policy`. Delays are in milliseconds. */
export interface RetryMessage {
  readonly max_attempts?: number;
  readonly base_delay: number;
  readonly max_delay: number;
  readonly backoff_multiplier: number;
  readonly jitter?: number;
}

/**
 * How often the server sends something, and the silence after which the connection is lost, in milliseconds.
 */
export interface Heartbeat {
  readonly interval: number;
  readonly timeout: number;
}

/** Why a channel could not be recovered. */
export type RecoveryReason = "epoch_changed" | "too_old" | "too_many" | "unknown_position";

/** The server's description of one subscription. */
export interface SubscriptionEntry {
  readonly channel: string;
  readonly epoch?: string;
  readonly offset?: number;
  /** Whether the channel keeps a history, from which a reconnect recovers. */
  readonly recoverable: boolean;
  readonly recovered?: boolean;
  readonly reason?: RecoveryReason;
  /** The types of client events that the channel accepts, and how many of each in a second. */
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
  /** The subscriptions of the session that cannot continue. */
  readonly failed?: readonly { readonly channel: string }[];
  /** When the credentials expire, in milliseconds since the Unix epoch. */
  readonly expires_at?: number;
  /** The remaining lifetime of the credentials in milliseconds. */
  readonly expires_in?: number;
  /** The limits of the server: `max_message` is the maximum size of a message, in encoded bytes. */
  readonly limits?: { readonly max_message?: number };
}

/** Any message of the server: a type, and fields that depend on it. */
export interface ServerMessage {
  readonly type: string;
  readonly [field: string]: unknown;
}

/**
 * Returns the type of a protocol message, and undefined for a message to listeners, whose type the
 * application chooses freely. Protocol messages about a channel have one of a few types and, except for
 * presence changes, no `timestamp`.
 */
export function typeOf({ type, channel, timestamp, event }: ServerMessage): string | undefined {
  // Publications return here before their type is compared, because this function is called several times for
  // each.
  if (channel !== undefined && timestamp !== undefined && !(event && type === "presence_change")) return undefined;
  return channel === undefined || CHANNEL_TYPES.test(type) ? type : undefined;
}

const CHANNEL_TYPES = /^((un)?subscribed|presence_(state|change|diff)|occupancy|gap|client_event)$/;

/**
 * The types of refusals. A client treats an unknown type by its `temporary` field, because types may be
 * added.
 */
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

/** A change of a channel's subscribers, in a channel that announces them. */
export interface ChannelEvent {
  readonly type: "channel_event";
  readonly event: "subscription_added" | "subscription_removed" | "subscription_reconnected" | (string & {});
  readonly channel: string;
  readonly user: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** Whether a client reconnects after this close code. Only the range of the number matters. */
export function shouldReconnect(code: number): boolean {
  return code < 3000 ? !PERMANENT_CODES.includes(code) : code % 1000 < 500;
}

// The codes of RFC 6455, 7.4.1, that a further attempt would bring about again.
const PERMANENT_CODES = [1000, 1002, 1003, 1007, 1008, 1010];
