// The errors of this client, as one class with a `kind`, and the server's refusals. Promises of the client
// are rejected with them.

import type { ErrorMessage } from "./protocol.js";

/**
 * Marks the errors of every copy of this package. The value states whether the error comes from the server.
 */
const MARK = Symbol.for("hauyna.isServerError");

/**
 * Why a promise of the client was rejected:
 * - `refused`: the server refused the request; the error is a {@link ServerError}
 * - `timeout`: it was sent and not answered in time; it may have been done
 * - `outcome_unknown`: it was sent, and the connection was lost before the answer; it may have been done
 * - `expired`: it was not sent within its `ttl`, or before another user signed in; it was not done
 * - `not_connected`: it was `volatile`, and there was no connection; it was not done
 * - `outbox_full`: too many requests wait already; it was not done
 * - `invalid`: it cannot be encoded, is larger than the outbox, or the call is a mistake
 * - `closed`: the client was closed, or the server refuses to connect it
 * - `gave_up`: the client has used up its attempts to connect
 * - `unsubscribed`: the subscription ended before the server had answered
 * - `overflow`: more messages wait in an iterator than it holds
 */
export type ErrorKind =
  | "refused"
  | "timeout"
  | "outcome_unknown"
  | "expired"
  | "not_connected"
  | "outbox_full"
  | "invalid"
  | "closed"
  | "gave_up"
  | "unsubscribed"
  | "overflow";

/** An error of this client or, as {@link ServerError}, of the server. */
export class HauynaError extends Error {
  readonly kind: ErrorKind;

  /**
   * An application may load this package twice, as an ES module and as CommonJS. `instanceof` recognises the
   * errors of both copies.
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    const mark = (value as { [MARK]?: boolean } | undefined | null)?.[MARK];
    if (this === HauynaError) return mark !== undefined;
    return (this as unknown) === ServerError ? mark === true : super[Symbol.hasInstance](value);
  }

  constructor(kind: ErrorKind, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "HauynaError";
    this.kind = kind;
  }

  get [MARK](): boolean {
    return false;
  }
}

/** Marks the rejection of a promise as handled, because the application itself caused it. */
export function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** Returns a promise together with the functions that settle it. */
export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((...settle) => ([resolve, reject] = settle));
  return { promise, resolve, reject };
}

/** The server's refusal of a request. Programs use `type`; the text is for people. */
export class ServerError extends HauynaError {
  readonly type: ErrorMessage["error_type"];
  /** Whether the same request may succeed later. */
  readonly temporary: boolean;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(message: Pick<ErrorMessage, "error_type" | "message" | "temporary" | "details">) {
    super("refused", message.message);
    this.name = "ServerError";
    this.type = message.error_type;
    this.temporary = message.temporary;
    this.details = message.details ?? {};
  }

  override get [MARK](): boolean {
    return true;
  }

  /** Milliseconds after which a `rate_limited` request may be repeated. */
  get retryAfter(): number | undefined {
    const after = this.details["retry_after"];
    return typeof after === "number" ? after : undefined;
  }
}
