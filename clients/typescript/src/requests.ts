// What a request of this client consists of: its options, and how long and how often it is sent. `outbox`
// holds the requests.

import type { ServerMessage } from "./protocol.js";
import type { AbortSignalLike } from "./runtime-types.js";

/** The options of a request. */
export interface RequestOptions {
  /** Milliseconds from sending the request to its answer. Default: 10 s. */
  readonly timeout?: number | undefined;
  /**
   * Milliseconds that the request may wait to be sent. Default: as long as the server keeps the session of a
   * lost connection.
   */
  readonly ttl?: number | undefined;
  /** Whether the request fails if there is no connection now. */
  readonly volatile?: boolean | undefined;
  /** Whether the request may be sent again after its answer was lost. Otherwise it then fails. */
  readonly repeatable?: boolean | undefined;
  /**
   * Stops waiting: the promise is rejected with the signal's reason. A request that was sent already may have
   * been done.
   */
  readonly signal?: AbortSignalLike | undefined;
}

/** What happens to a request whose answer was lost. */
export type Retry =
  /** It is sent again: it changes nothing, or the application has declared it `repeatable`. */
  | "always"
  /** It fails with `outcome_unknown`. */
  | "never"
  /** It is a publication with a key, and is sent again if the server still remembers the key. */
  | "keyed";

/** The limits of the outbox. */
export interface OutboxLimits {
  /** The maximum number of requests without an answer. Default: 1,000. */
  readonly count?: number | undefined;
  /** The approximate maximum of their size in bytes. Default: 1 MiB. */
  readonly bytes?: number | undefined;
}

/** A request that the outbox may queue. */
export interface QueuedRequest extends RequestOptions {
  readonly message: ServerMessage;
  /** The application's own fields of the message. */
  readonly fields?: unknown;
  readonly retry: Retry;
  /** The channel to which it publishes. */
  readonly channel?: string;
  /** Converts the data of the answer, before the client receives anything else. */
  readonly take?: (data: unknown) => unknown;
  /** Whether it has to wait although there is a connection. */
  readonly isHeld?: () => boolean;
  /** Whether it is sent before the subscriptions are restored. */
  readonly isEarly?: boolean;
}

/** A request that is sent at once, before all queued requests. */
export interface UrgentRequest {
  readonly message: ServerMessage;
  readonly timeout?: number;
  readonly take?: (data: unknown) => unknown;
}
