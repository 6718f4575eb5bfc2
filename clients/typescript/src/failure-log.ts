// Failed attempts: which of them are logged as warnings, and which HTTP statuses another attempt will not
// change.

import type { State } from "./connection.js";
import type { Environment } from "./environment.js";
import type { Logger } from "./logger.js";
import { BAD_REQUEST, INVALID_TOKEN, PERMISSION_DENIED } from "./close-codes.js";

/**
 * Logs a series of failed attempts: the first and the last as warnings, and the connection that ends the
 * series.
 */
export class FailureLog {
  readonly #logger: Logger;
  readonly #environment: Environment;
  /** Whether a warning was logged since the last connection. */
  #hasWarned = false;

  constructor(logger: Logger, environment: Environment) {
    this.#logger = logger;
    this.#environment = environment;
  }

  /** Logs a failed attempt. `state` is the state that follows from it. */
  failed(url: () => string, state: State, code: number, reason: string): void {
    const retryAt = (state as { retryAt?: number }).retryAt;
    const retryInMs = retryAt && Math.round(retryAt - this.#environment.now());
    const fields = { url: withoutQuery(url), code, reason, retryInMs };
    if (state.name === "closed") this.#hasWarned = false;
    this.log("cannot connect", fields);
    this.#hasWarned = true;
  }

  /** Logs a detail of a failed attempt: as a warning if the attempt is the first of its series. */
  log(message: string, fields: object): void {
    this.#logger[this.#hasWarned ? "debug" : "warn"](message, fields);
  }

  /** Logs a connection, which ends the series. */
  connected(fields: object): void {
    if (this.#hasWarned) this.#logger.info("connected again", fields);
    else this.#logger.debug("connected", fields);
    this.#hasWarned = false;
  }
}

/**
 * Returns the close code for an HTTP status that another attempt will not change, unless another attempt can
 * bring a new token.
 */
export function closeCodeOf(status: number | undefined, canRenewToken: boolean): number | undefined {
  if (!status || status < 400 || status > 499 || [408, 425, 429].includes(status)) return undefined;
  if (status === 401) return canRenewToken ? undefined : INVALID_TOKEN;
  return status === 403 ? PERMISSION_DENIED : BAD_REQUEST;
}

/** Returns an address without its query and fragment, which may contain secrets. */
function withoutQuery(url: () => string): string {
  try {
    return url().replace(/[?#].*$/s, "");
  } catch {
    return "not a URL";
  }
}
