// The requests of this client: those that wait to be sent, and those that wait for their answer. It is
// bounded, keeps the order of requests, and decides what happens to a request when the connection is lost. It
// has no access to sockets.

import { type Codec, size } from "./codec.js";
import { type Environment, amount } from "./environment.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import type { ErrorMessage, ServerMessage, SessionMessage } from "./protocol.js";
import type { OutboxLimits, QueuedRequest, Retry, UrgentRequest } from "./requests.js";
import { onAbort } from "./runtime-types.js";

export type { OutboxLimits, QueuedRequest, RequestOptions, Retry, UrgentRequest } from "./requests.js";

type Frame = string | Uint8Array;

interface Entry extends QueuedRequest {
  retry: Retry;
  readonly id: number;
  readonly frame: Frame;
  /** The time after which it is not sent any more. */
  readonly until: number;
  /** When it was sent for the first time. */
  sentAt: number | undefined;
  cancel: () => void;
  /** Whether it was sent on an earlier connection as well. */
  isRepeated?: boolean;
  /** The promise that the application has. */
  answer?: Promise<unknown>;
  /** Removes the listener of the signal. */
  unlisten?: () => void;
  readonly resolve: (data: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The requests of one client. */
export class Outbox {
  readonly #codec: Codec;
  readonly #environment: Environment;
  readonly #limits: { readonly count: number; readonly bytes: number };
  readonly #timeout: number;
  readonly #ttl: number | undefined;
  /**
   * How long the server keeps a lost session, and the maximum size of a message, as the last session stated
   * them.
   */
  #sessionWindow = DEFAULT_WINDOW;
  #maxMessage = Infinity;
  /**
   * The requests that were not sent on this connection. Those that were sent on an earlier one come first.
   */
  #waiting = new Set<Entry>();
  /** The requests that were sent on this connection, by id, in the order of sending. */
  readonly #sent = new Map<unknown, Entry>();
  #bytes = 0;
  /**
   * The size of the largest frame on this connection that was not a request, or was a request that failed
   * without an answer.
   */
  #largestOther = 0;
  /** The number of the newest request. */
  number = 0;
  /** Sends a frame on the current connection. */
  #writeFrame: ((frame: Frame) => void) | undefined;
  /**
   * Whether the subscriptions of the current connection are restored, or other requests no longer wait for
   * them.
   */
  #isRestored = false;
  /** The token requests that are under way. */
  readonly #tokenRequests = new Set<object>();
  /** Whether another connection is about to replace the current one. */
  #isPaused = false;
  /** Called when no sent request waits for an answer. */
  #allAnswered = () => {};
  /** Whether the application causes the failures, so that rejections count as handled. */
  isQuiet = false;
  /** The error with which new requests fail, while the client is closed. */
  closed: HauynaError | undefined;

  constructor(
    codec: Codec,
    environment: Environment,
    options: { outbox?: OutboxLimits | undefined; timeout?: number | undefined; ttl?: number | undefined },
  ) {
    this.#codec = codec;
    this.#environment = environment;
    const { count, bytes } = options.outbox ?? {};
    this.#limits = { count: amount(count, 1000), bytes: amount(bytes, 1 << 20) };
    this.#timeout = amount(options.timeout, 10_000);
    this.#ttl = options.ttl;
  }

  /** Applies the limits that a session states. */
  limit({ resume, limits }: SessionMessage): void {
    this.#sessionWindow = Math.max(amount(resume?.window, 0), MIN_WINDOW);
    this.#maxMessage = amount(limits?.max_message, Infinity);
  }

  /** Whether the frame exceeds the server's maximum size. */
  isTooLarge(frame: Frame): boolean {
    // UTF-8 needs at most three bytes for each code unit.
    return frame.length * 3 > this.#maxMessage && size(frame) > this.#maxMessage;
  }

  /**
   * Fails the largest request after the connection ended because a message was too large, unless another frame
   * was as large. Returns the size of the largest frame.
   */
  failLargest(): number {
    const [largest] = [...this.#sent.values()].sort((one, other) => size(other.frame) - size(one.frame));
    if (largest && size(largest.frame) > this.#largestOther) this.#failEntry(largest, refusalOf(largest, tooLargeError()));
    return this.#largestOther;
  }

  /**
   * Sends a request, or queues it. The promise resolves with the answer's data, or with the result of `take`.
   * The application receives this very promise: a promise that wraps it would be rejected without a handler
   * after an abort.
   */
  request(request: QueuedRequest): Promise<unknown> {
    if (this.closed) return Promise.reject(this.closed);
    const { signal } = request;
    if (signal?.aborted) return quiet(Promise.reject(signal.reason));
    const isEarly = this.#tokenRequests.size > 0 && request.retry !== "keyed";
    if (request.volatile && (!this.#writeFrame || this.#isPaused || !(this.#isRestored || isEarly))) return Promise.reject(notConnected());
    const { promise: answer, resolve, reject } = deferred<unknown>();
    try {
      const entry = this.#createEntry({ ...request, isEarly }, resolve, reject);
      const { length } = entry.frame;
      const { count, bytes } = this.#limits;
      if (this.#waiting.size + this.#sent.size >= count || this.#bytes + length > bytes) {
        throw new HauynaError(length > bytes ? "invalid" : "outbox_full", "no room in the outbox");
      }
      entry.answer = answer;
      this.#bytes += length;
      this.#waiting.add(entry);
      entry.unlisten = onAbort(signal, () => (quiet(answer), this.#failEntry(entry, signal?.reason)));
      this.#scheduleExpiry(entry);
      this.flush();
    } catch (error) {
      reject(error);
    }
    return answer;
  }

  /** Whether there is a connection. Its subscriptions may not be restored yet. */
  get isConnected(): boolean {
    return this.#writeFrame !== undefined;
  }

  /**
   * Sends a request on the current connection, before all queued ones. It fails with the connection, or at
   * once if there is none.
   */
  sendNow(request: UrgentRequest): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.#writeFrame) throw notConnected();
      const entry = this.#createEntry({ ...request, retry: "never" }, resolve, reject);
      this.#checkSize(entry.frame);
      this.#bytes += entry.frame.length;
      this.#sendEntry(entry, this.#writeFrame);
    });
  }

  /**
   * Sends a message that has no answer, if there is a connection. Throws if it is too large or cannot be
   * encoded.
   */
  send(message: ServerMessage): void {
    this.sendFrame(this.#checkSize(this.#encode(message)));
  }

  sendFrame(frame: Frame): void {
    this.#largestOther = Math.max(this.#largestOther, size(frame));
    this.#writeFrame?.(frame);
  }

  #checkSize(frame: Frame): Frame {
    if (this.isTooLarge(frame)) throw tooLargeError(this.#maxMessage);
    return frame;
  }

  /**
   * Starts to send on a new connection: first the subscriptions, and before them the requests for their
   * tokens. A frame of `resumeSize` bytes was sent before.
   */
  begin(send: (frame: Frame) => void, resumeSize: number): void {
    this.#writeFrame = send;
    this.#largestOther = resumeSize;
    this.flush();
  }

  /** Allows all requests on the current connection. */
  open(): void {
    this.#isRestored = true;
    this.flush();
  }

  /**
   * Announces a token request. Until the returned function is called, new requests do not wait for the
   * subscriptions, because the token may depend on them.
   */
  early(): () => void {
    const token = {};
    this.#tokenRequests.add(token);
    return () => void this.#tokenRequests.delete(token);
  }

  /** Stops sending. Resolves when all sent requests are answered. */
  pause(): Promise<void> {
    this.#isPaused = true;
    return new Promise((resolve) => {
      this.#allAnswered = resolve;
      this.#notifyIfAllAnswered();
    });
  }

  /** Continues sending after {@link pause}. */
  unpause(): void {
    this.#isPaused = false;
    this.flush();
  }

  /** Handles the loss or the replacement of the connection. */
  lost(): void {
    this.#writeFrame = undefined;
    this.#isRestored = this.#isPaused = false;
    const repeated: Entry[] = [];
    for (const entry of [...this.#sent.values()]) {
      entry.cancel();
      if (entry.retry === "never" || entry.volatile) this.#failEntry(entry, outcomeUnknown());
      else repeated.push(entry);
    }
    this.#sent.clear();
    for (const entry of this.#waiting) if (entry.volatile) this.#failEntry(entry, notConnected());
    this.#waiting = new Set([...repeated, ...this.#waiting]);
    for (const entry of repeated) {
      entry.isRepeated = true;
      this.#scheduleExpiry(entry);
    }
    this.#notifyIfAllAnswered();
  }

  /**
   * Handles that the server may have forgotten the keys of some channels. Publications that were sent to them
   * on an earlier connection fail; those that were sent on this one are not sent again.
   */
  forget(isRemembered: (channel: string | undefined) => boolean): void {
    for (const entry of [...this.#waiting, ...this.#sent.values()]) {
      if (entry.retry !== "keyed" || entry.sentAt === undefined || isRemembered(entry.channel)) continue;
      if (this.#sent.has(entry.id)) entry.retry = "never";
      else this.#failEntry(entry, outcomeUnknown());
    }
  }

  /** Fails the waiting requests up to this number, because another user has signed in. */
  failUpTo(last: number): void {
    for (const entry of this.#waiting) if (entry.id <= last) this.#failEntry(entry, unsentError(entry));
  }

  /** Handles an `ack`, `pong` or `error`. Returns false if no request waits for it. */
  answer(message: ServerMessage): boolean {
    const entry = this.#sent.get(message["id"]);
    if (!entry) return false;
    this.#removeEntry(entry);
    if (message.type === "error") entry.reject(refusalOf(entry, new ServerError(message as unknown as ErrorMessage)));
    else {
      const { take = (data: unknown) => data } = entry;
      try {
        entry.resolve(take(message["data"]));
      } catch (error) {
        entry.reject(error);
      }
    }
    return true;
  }

  /** Fails all requests, and refuses new ones. */
  close(closed: HauynaError): void {
    this.#writeFrame = undefined;
    this.closed = closed;
    for (const entry of [...this.#sent.values(), ...this.#waiting]) this.#failEntry(entry, unsentError(entry, closed));
  }

  #createEntry(request: QueuedRequest, resolve: (data: unknown) => void, reject: (error: unknown) => void): Entry {
    const id = ++this.number;
    const { message, fields } = request;
    if (!areFields(fields ?? {}, message.type)) throw new HauynaError("invalid", "`id` and `type` belong to the request");
    const frame = this.#encode({ ...(fields as object | undefined), ...message, id });
    const until = this.#environment.now() + amount(request.ttl ?? this.#ttl, this.#sessionWindow);
    return { ...request, id, frame, until, sentAt: undefined, cancel: () => {}, resolve, reject };
  }

  #encode(message: ServerMessage): Frame {
    try {
      return this.#codec.encode(message);
    } catch (cause) {
      throw new HauynaError("invalid", "it cannot be encoded", { cause });
    }
  }

  /** Sends the waiting requests that may be sent now. */
  flush(): void {
    for (const entry of this.#waiting) {
      if (!this.#writeFrame || this.#isPaused) return;
      if (!(this.#isRestored || entry.isEarly) || entry.isHeld?.()) continue;
      const now = this.#environment.now();
      const isLate = now > entry.until || (entry.retry === "keyed" && now - (entry.sentAt ?? now) > KEY_MEMORY);
      if (isLate) this.#failEntry(entry, unsentError(entry));
      else if (this.isTooLarge(entry.frame)) this.#failEntry(entry, refusalOf(entry, tooLargeError(this.#maxMessage)));
      else {
        this.#waiting.delete(entry);
        entry.cancel();
        this.#sendEntry(entry, this.#writeFrame);
      }
    }
  }

  #sendEntry(entry: Entry, send: (frame: Frame) => void): void {
    this.#sent.set(entry.id, entry);
    entry.sentAt ??= this.#environment.now();
    const timedOut = () => this.#failEntry(entry, new HauynaError("timeout", "no answer in time"));
    entry.cancel = this.#environment.after(amount(entry.timeout, this.#timeout), timedOut);
    send(entry.frame);
  }

  #scheduleExpiry(entry: Entry): void {
    const remaining = Math.max(0, entry.until - this.#environment.now());
    if (remaining === Infinity) return;
    entry.cancel = this.#environment.after(remaining, () => this.#failEntry(entry, unsentError(entry)));
  }

  #failEntry(entry: Entry, error: unknown): void {
    if (this.#sent.has(entry.id)) this.#largestOther = Math.max(this.#largestOther, size(entry.frame));
    this.#removeEntry(entry);
    if (this.isQuiet && entry.answer) quiet(entry.answer);
    entry.reject(error);
  }

  #removeEntry(entry: Entry): void {
    entry.cancel();
    entry.unlisten?.();
    this.#bytes -= entry.frame.length;
    this.#sent.delete(entry.id);
    this.#waiting.delete(entry);
    this.#notifyIfAllAnswered();
  }

  #notifyIfAllAnswered(): void {
    if (this.#sent.size === 0) this.#allAnswered();
  }
}

/** Returns the error of a request that needs a connection while there is none. */
export function notConnected(): HauynaError {
  return new HauynaError("not_connected", "there is no connection");
}

/** Whether a request of this type would send all of these fields, and replace none of them. */
function areFields(fields: { readonly id?: unknown; readonly type?: unknown }, type: string): boolean {
  return typeof fields === "object" && !Array.isArray(fields) && fields.id === undefined && (fields.type ?? type) === type;
}

/** Returns the error of a message that exceeds the server's maximum size. */
function tooLargeError(limit?: number): ServerError {
  const details = { ...(limit && { limit }) };
  return new ServerError({ error_type: "payload_too_large", message: "the message is too large", temporary: false, details });
}

/**
 * Returns the error of a request that will not be sent: `error` if it never was, otherwise `outcome_unknown`.
 */
function unsentError({ sentAt }: Entry, error = new HauynaError("expired", "not sent in time")): HauynaError {
  return sentAt === undefined ? error : outcomeUnknown();
}

/**
 * Returns the error of a refused request. If it was sent before, the refusal does not tell the outcome of the
 * first time.
 */
function refusalOf({ isRepeated, retry }: Entry, refused: ServerError): HauynaError {
  return isRepeated && retry !== "always" ? outcomeUnknown(refused) : refused;
}

function outcomeUnknown(cause?: ServerError): HauynaError {
  return new HauynaError("outcome_unknown", "lost before the answer", { cause });
}

/** Milliseconds that a request may wait before the first session, and the minimum afterwards. */
const DEFAULT_WINDOW = 120_000;
const MIN_WINDOW = 30_000;
/** Milliseconds. Servers remember keys for five minutes; the difference allows for inexact clocks. */
const KEY_MEMORY = 4.5 * 60_000;
