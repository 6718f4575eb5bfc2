// What this client has asked: waiting to be sent, or sent and waiting for its answer. Bounded, in its order, and the
// place where it is decided what happens to a request when the connection is lost. Knows nothing of sockets.

import { type Codec, size } from "./codec.js";
import { type Environment, amount } from "./environment.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import type { ErrorMessage, ServerMessage, SessionMessage } from "./protocol.js";
import { type AbortSignalLike, onAbort } from "./standard.js";

/** How long a request may take, and what may be done for it. */
export interface RequestOptions {
  /** Milliseconds from sending to the answer. Default: 10 s. */
  readonly timeout?: number | undefined;
  /** Milliseconds that it may wait to be sent. Default: for as long as the server keeps the session of a lost connection. */
  readonly ttl?: number | undefined;
  /** Only if connected now. */
  readonly volatile?: boolean | undefined;
  /** May be sent again where the first time may have been lost. Without it such a request fails. */
  readonly repeatable?: boolean | undefined;
  /** Ends the waiting: the promise is rejected with the signal's reason. What was sent already may have been done. */
  readonly signal?: AbortSignalLike | undefined;
}

/** What to do with a request whose answer was lost. */
export type Retry =
  /** Send it again: it changes nothing, or says so itself. */
  | "always"
  /** Never: `outcome_unknown`. */
  | "never"
  /** A publication with a key: again, where the server remembers keys. */
  | "keyed";

/** How much may wait. */
export interface OutboxLimits {
  /** Requests without an answer. Default: 1,000. */
  readonly count?: number | undefined;
  /** About as many bytes of them. Default: 1 MiB. */
  readonly bytes?: number | undefined;
}

/** One request. */
export interface Asked extends RequestOptions {
  readonly message: ServerMessage;
  readonly retry: Retry;
  /** Where it publishes. */
  readonly channel?: string;
  /** Makes the result of the answer, before anything else is received. */
  readonly take?: (data: unknown) => unknown;
  /** Whether it has to wait, though there is a connection. */
  readonly isHeld?: () => boolean;
  /** It does not wait for the subscriptions. */
  readonly isEarly?: boolean;
}

/** One request past everything that waits. */
export interface Urgent {
  readonly message: ServerMessage;
  readonly timeout?: number;
  readonly take?: (data: unknown) => unknown;
}

type Frame = string | Uint8Array;

interface Entry extends Asked {
  retry: Retry;
  readonly id: number;
  readonly frame: Frame;
  /** Past it, it is not sent any more. */
  readonly until: number;
  /** When it was sent for the first time. */
  sentAt: number | undefined;
  cancel: () => void;
  /** It was sent on an earlier connection, too. */
  isRepeated?: boolean;
  /** What the application waits for. */
  answer?: Promise<unknown>;
  /** Stops listening to the signal. */
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
  /** What the last session has said: how long it is kept after a loss, and the bytes of the largest message. */
  #window = WINDOW;
  #largest = Infinity;
  /** Not sent on this connection; those that were on an earlier one come first. */
  #waiting = new Set<Entry>();
  /** Sent on this connection, by their id, in the order of sending. */
  readonly #sent = new Map<unknown, Entry>();
  #bytes = 0;
  /**
   * The size of the largest frame on this connection that was no request, or one that has failed without an
   * answer.
   */
  #told = 0;
  /** The newest request has this number. */
  number = 0;
  /** How to send on the connection that is there. */
  #send: ((frame: Frame) => void) | undefined;
  /** Its subscriptions are restored, as far as anybody waits for that. */
  #isOpen = false;
  /** Tokens that are being asked for. */
  readonly #early = new Set<object>();
  /** Another connection is about to take over. */
  #isPaused = false;
  /** Called when nothing that was sent waits for its answer. */
  #idle = () => {};
  /** The application ends what fails now: it need not hear of that. */
  isQuiet = false;
  /** Why nothing is taken, where that is so; a connection that is being looked for ends it. */
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

  /** Takes what a session says about requests. */
  learn({ resume, limits }: SessionMessage): void {
    this.#window = Math.max(amount(resume?.window, 0), SHORTEST);
    this.#largest = amount(limits?.max_message, Infinity);
  }

  /** Whether the server takes no message that large. */
  isTooLarge(frame: Frame): boolean {
    // No character takes more than three bytes a code unit.
    return frame.length * 3 > this.#largest && size(frame) > this.#largest;
  }

  /**
   * The connection ended because a message was too large: the largest request that waits for its answer
   * fails, unless another frame was as large. Returns the size of the largest frame.
   */
  giveUpLargest(): number {
    const [largest] = [...this.#sent.values()].sort((one, other) => size(other.frame) - size(one.frame));
    if (largest && size(largest.frame) > this.#told) this.#fail(largest, refusal(largest, tooLarge()));
    return this.#told;
  }

  /**
   * Sends, now or later. The promise is that of the answer's data, or of what is taken from it. It is given to the
   * application as it is: another one around it would be rejected, and unhandled, where the application has aborted.
   */
  request(asked: Asked): Promise<unknown> {
    if (this.closed) return Promise.reject(this.closed);
    const { signal } = asked;
    if (signal?.aborted) return quiet(Promise.reject(signal.reason));
    const isEarly = this.#early.size > 0 && asked.retry !== "keyed";
    if (asked.volatile && (!this.#send || this.#isPaused || !(this.#isOpen || isEarly))) return Promise.reject(unconnected());
    const { promise: answer, resolve, reject } = deferred<unknown>();
    try {
      const entry = this.#entry({ ...asked, isEarly }, resolve, reject);
      const { length } = entry.frame;
      const { count, bytes } = this.#limits;
      if (this.#waiting.size + this.#sent.size >= count || this.#bytes + length > bytes) {
        throw new HauynaError(length > bytes ? "invalid" : "outbox_full", "no room in the outbox");
      }
      entry.answer = answer;
      this.#bytes += length;
      this.#waiting.add(entry);
      entry.unlisten = onAbort(signal, () => (quiet(answer), this.#fail(entry, signal?.reason)));
      this.#expire(entry);
      this.flush();
    } catch (error) {
      reject(error);
    }
    return answer;
  }

  /** Whether there is a connection; its subscriptions may still be restored. */
  get isConnected(): boolean {
    return this.#send !== undefined;
  }

  /** Sends past everything that waits, on the connection that is there; lost with it. Fails where there is none. */
  urgent(asked: Urgent): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.#send) throw unconnected();
      const entry = this.#entry({ ...asked, retry: "never" }, resolve, reject);
      this.#check(entry.frame);
      this.#bytes += entry.frame.length;
      this.#deliver(entry, this.#send);
    });
  }

  /** Sends what is not answered, where there is a connection; what is too large or cannot be encoded fails. */
  tell(message: ServerMessage): void {
    this.tellFrame(this.#check(this.#encode(message)));
  }

  tellFrame(frame: Frame): void {
    this.#told = Math.max(this.#told, size(frame));
    this.#send?.(frame);
  }

  #check(frame: Frame): Frame {
    if (this.isTooLarge(frame)) throw tooLarge(this.#largest);
    return frame;
  }

  /**
   * There is a connection, whose subscriptions come first, and before them what is asked for their tokens. A
   * frame of `told` bytes was sent on it before.
   */
  begin(send: (frame: Frame) => void, told: number): void {
    this.#send = send;
    this.#told = told;
    this.flush();
  }

  /** Everything may be sent on it. */
  open(): void {
    this.#isOpen = true;
    this.flush();
  }

  /** Until the returned function is called, a token is asked for: what is requested may be for it, and does not wait for the subscriptions. */
  early(): () => void {
    const token = {};
    this.#early.add(token);
    return () => void this.#early.delete(token);
  }

  /** Nothing is sent for now. Resolves when what was sent is answered. */
  pause(): Promise<void> {
    this.#isPaused = true;
    return new Promise((resolve) => {
      this.#idle = resolve;
      this.#settled();
    });
  }

  /** It did not. */
  unpause(): void {
    this.#isPaused = false;
    this.flush();
  }

  /** The connection is lost, or another takes its place. */
  lost(): void {
    this.#send = undefined;
    this.#isOpen = this.#isPaused = false;
    const again: Entry[] = [];
    for (const entry of [...this.#sent.values()]) {
      entry.cancel();
      if (entry.retry === "never" || entry.volatile) this.#fail(entry, unknown());
      else again.push(entry);
    }
    this.#sent.clear();
    for (const entry of this.#waiting) if (entry.volatile) this.#fail(entry, unconnected());
    this.#waiting = new Set([...again, ...this.#waiting]);
    for (const entry of again) {
      entry.isRepeated = true;
      this.#expire(entry);
    }
    this.#settled();
  }

  /**
   * Some places may have forgotten the keys of what was sent there. What was sent on an earlier connection fails, and the
   * rest is not sent again.
   */
  forget(isRemembered: (channel: string | undefined) => boolean): void {
    for (const entry of [...this.#waiting, ...this.#sent.values()]) {
      if (entry.retry !== "keyed" || entry.sentAt === undefined || isRemembered(entry.channel)) continue;
      if (this.#sent.has(entry.id)) entry.retry = "never";
      else this.#fail(entry, unknown());
    }
  }

  /** Somebody else has signed in: what waits is not sent as theirs, but for what was asked after the request of this number. */
  leave(last: number): void {
    for (const entry of this.#waiting) if (entry.id <= last) this.#fail(entry, unsent(entry));
  }

  /** Takes an `ack`, `pong` or `error` of the server's. False if nobody waits for it. */
  answer(message: ServerMessage): boolean {
    const entry = this.#sent.get(message["id"]);
    if (!entry) return false;
    this.#remove(entry);
    if (message.type === "error") entry.reject(refusal(entry, new ServerError(message as unknown as ErrorMessage)));
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

  /** Nothing will be sent. */
  close(closed: HauynaError): void {
    this.#send = undefined;
    this.closed = closed;
    for (const entry of [...this.#sent.values(), ...this.#waiting]) this.#fail(entry, unsent(entry, closed));
  }

  #entry(asked: Asked, resolve: (data: unknown) => void, reject: (error: unknown) => void): Entry {
    const id = ++this.number;
    const frame = this.#encode({ ...asked.message, id });
    const until = this.#environment.now() + amount(asked.ttl ?? this.#ttl, this.#window);
    return { ...asked, id, frame, until, sentAt: undefined, cancel: () => {}, resolve, reject };
  }

  #encode(message: ServerMessage): Frame {
    try {
      return this.#codec.encode(message);
    } catch (cause) {
      throw new HauynaError("invalid", "it cannot be encoded", { cause });
    }
  }

  /** Sends what may be sent now. */
  flush(): void {
    for (const entry of this.#waiting) {
      if (!this.#send || this.#isPaused) return;
      if (!(this.#isOpen || entry.isEarly) || entry.isHeld?.()) continue;
      const now = this.#environment.now();
      const isLate = now > entry.until || (entry.retry === "keyed" && now - (entry.sentAt ?? now) > REMEMBERED);
      if (isLate) this.#fail(entry, unsent(entry));
      else if (this.isTooLarge(entry.frame)) this.#fail(entry, refusal(entry, tooLarge(this.#largest)));
      else {
        this.#waiting.delete(entry);
        entry.cancel();
        this.#deliver(entry, this.#send);
      }
    }
  }

  #deliver(entry: Entry, send: (frame: Frame) => void): void {
    this.#sent.set(entry.id, entry);
    entry.sentAt ??= this.#environment.now();
    const late = () => this.#fail(entry, new HauynaError("timeout", "no answer in time"));
    entry.cancel = this.#environment.after(amount(entry.timeout, this.#timeout), late);
    send(entry.frame);
  }

  #expire(entry: Entry): void {
    const left = Math.max(0, entry.until - this.#environment.now());
    if (left === Infinity) return;
    entry.cancel = this.#environment.after(left, () => this.#fail(entry, unsent(entry)));
  }

  #fail(entry: Entry, error: unknown): void {
    if (this.#sent.has(entry.id)) this.#told = Math.max(this.#told, size(entry.frame));
    this.#remove(entry);
    if (this.isQuiet && entry.answer) quiet(entry.answer);
    entry.reject(error);
  }

  #remove(entry: Entry): void {
    entry.cancel();
    entry.unlisten?.();
    this.#bytes -= entry.frame.length;
    this.#sent.delete(entry.id);
    this.#waiting.delete(entry);
    this.#settled();
  }

  #settled(): void {
    if (this.#sent.size === 0) this.#idle();
  }
}

/** Why something was not sent that does not wait. */
export function unconnected(): HauynaError {
  return new HauynaError("not_connected", "there is no connection");
}

/** The server takes no message that large. */
function tooLarge(limit?: number): ServerError {
  const details = { ...(limit && { limit }) };
  return new ServerError({ error_type: "payload_too_large", message: "the message is too large", temporary: false, details });
}

/** Why it fails without having been sent, unless it was before. */
function unsent({ sentAt }: Entry, error = new HauynaError("expired", "not sent in time")): HauynaError {
  return sentAt === undefined ? error : unknown();
}

/** What a refusal means for the request: of one that was sent before, it says nothing of the first time. */
function refusal({ isRepeated, retry }: Entry, refused: ServerError): HauynaError {
  return isRepeated && retry !== "always" ? unknown(refused) : refused;
}

function unknown(cause?: ServerError): HauynaError {
  return new HauynaError("outcome_unknown", "lost before the answer", { cause });
}

/** Milliseconds that a request waits before the first session, and at least. */
const WINDOW = 120_000;
const SHORTEST = 30_000;
/** Milliseconds: servers remember keys for five minutes, and clocks differ. */
const REMEMBERED = 4.5 * 60_000;
