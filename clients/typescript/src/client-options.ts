// The options of a client, and of one call of `connect`.

import type { Codec } from "./codec.js";
import type { TokenContext } from "./connection.js";
import type { RetryTerms } from "./conversions.js";
import type { Environment } from "./environment.js";
import type { Logger } from "./logger.js";
import type { OutboxLimits } from "./requests.js";
import type { AbortSignalLike } from "./runtime-types.js";
import type { WebSocketConstructor } from "./socket.js";

/** The options of a client. Durations are in milliseconds. */
export interface ClientOptions {
  /**
   * Returns the credentials. Called before every attempt, and before the credentials expire. They are sent as
   * a sub-protocol.
   */
  readonly getToken?: ((context: TokenContext) => string | undefined | Promise<string | undefined>) | undefined;
  /** The encoding of messages: `json`, the default, or `msgpack`. */
  readonly codec?: Codec | undefined;
  /** How long a request may wait for its answer after it was sent. Default: 10 s. */
  readonly timeout?: number | undefined;
  /**
   * How long a request may wait to be sent. Default: as long as the server keeps the session of a lost
   * connection.
   */
  readonly ttl?: number | undefined;
  /** How long an attempt to connect may take. Default: 10 s. */
  readonly connectTimeout?: number | undefined;
  /** How many requests may wait for an answer. */
  readonly outbox?: OutboxLimits | undefined;
  /** The reconnect policy, which overrides the server's. */
  readonly retry?: RetryTerms | undefined;
  /** The WebSocket class. Default: the one of the runtime. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /** The environment of the client, which tests replace. */
  readonly environment?: Environment | undefined;
  /**
   * The logger. Default: the console, with one warning for each series of failed attempts, a line when the
   * client is connected again, and other errors.
   */
  readonly logger?: Logger | undefined;
}

/** The options of {@link Client.connect}. */
export interface ConnectOptions {
  /** Milliseconds to wait for the first connection. Default: no limit. */
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignalLike | undefined;
}

/** Answers the client requests of one name. */
export type ClientRequestHandler<Data, Reply> = (data: Data) => Reply | Promise<Reply>;
