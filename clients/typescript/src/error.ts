// What goes wrong, as one type with a `kind`, and the refusals of the server. Thrown by promises of the client.

import type { ErrorMessage } from "./protocol.js";

/** Errors of every copy of this package have it; its value is whether they are the server's. */
const MARK = Symbol.for("hauyna.isServerError");

/**
 * Why a promise of the client failed:
 *
 * - `refused`: the server said no; it is a {@link ServerError}
 * - `timeout`: it was sent, and not answered in time; whether it was done is not known
 * - `outcome_unknown`: it was sent, and the connection was lost before the answer; it may have been done
 * - `expired`: it could not be sent within its `ttl`, or before somebody else signed in; it was not done
 * - `not_connected`: it was `volatile`, and there was no connection; it was not done
 * - `outbox_full`: too much waits already; it was not done
 * - `invalid`: it cannot be encoded, is larger than the outbox, or is no use of this client
 * - `closed`: the client was closed, or the server will have no connection of it
 * - `gave_up`: the client has used up its attempts to connect
 * - `unsubscribed`: the subscription was ended before the server had answered
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

/** A failure of this client or, as {@link ServerError}, of the server. */
export class HauynaError extends Error {
  readonly kind: ErrorKind;

  /** An application may load this package twice, as an ES module and as CommonJS: errors of either are instances. */
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

/** Marks a promise as handled: the application itself took back what it would have resolved with. */
export function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** A promise with what settles it. */
export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((...settle) => ([resolve, reject] = settle));
  return { promise, resolve, reject };
}

/** The server refused a request. `type` is the contract, the text is for people. */
export class ServerError extends HauynaError {
  readonly type: ErrorMessage["error_type"];
  /** The same request may succeed later. */
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
