// The connection loop: when the next attempt starts, which socket is the current one, and when the client
// stops. It reads only the messages `session`, `retry_policy` and `reconnect`, and passes all others to its
// owner.

import { STABLE_AFTER, delayBefore, retryTerms } from "./backoff.js";
import { BAD_REQUEST, MESSAGE_TOO_BIG, NORMAL, REPLACED } from "./close-codes.js";
import type { Codec } from "./codec.js";
import type { Environment, Signal } from "./environment.js";
import { HauynaError } from "./error.js";
import { FailureLog, closeCodeOf } from "./failure-log.js";
import { Liveness } from "./liveness.js";
import { type Logger, messageLog } from "./logger.js";
import { type RetryTerms, type SessionInfo, sessionOf, termsOf } from "./conversions.js";
import { type RetryMessage, type ServerMessage, type SessionMessage, shouldReconnect, typeOf } from "./protocol.js";
import { LOST, Socket, type WebSocketConstructor } from "./socket.js";

/** The state of the connection. */
export type State =
  /** Not connected, and trying: now, or at `retryAt` (milliseconds since the Unix epoch). */
  | {
      readonly name: "connecting" | "reconnecting";
      /** The number of the attempt; 0 before the first failure. */
      readonly attempt: number;
      /** When the next attempt starts; undefined during an attempt, and without a network. */
      readonly retryAt?: number;
      /** The close code with which the last connection or attempt ended. */
      readonly code?: number;
      readonly reason?: string;
    }
  | { readonly name: "connected"; readonly session: SessionInfo }
  /**
   * Not trying. Requests fail with `error`. Its kind is `closed`, or `gave_up` if the attempts were used up.
   */
  | { readonly name: "closed"; readonly code?: number; readonly reason: string; readonly error: HauynaError };

/** The reason for which `getToken` is called. */
export interface TokenContext {
  /**
   * Whether the credentials of the current connection are renewed. False: the credentials are for a new
   * connection.
   */
  readonly isRefresh: boolean;
}

/** The options of a connection. */
export interface ConnectionOptions {
  /** Returns the address. Throws if it is not a URL. */
  readonly url: () => string;
  readonly codec: Codec;
  /** Returns the WebSocket class, if the runtime has one. */
  readonly WebSocket: () => WebSocketConstructor | undefined;
  readonly environment: Environment;
  readonly logger: Logger;
  readonly connectTimeout: number;
  readonly retry?: RetryTerms | undefined;
  readonly getToken?: ((context: TokenContext) => Promise<string | undefined> | string | undefined) | undefined;
}

/** The callbacks of a connection's owner. */
export interface ConnectionEvents {
  state(state: State): void;
  /** Returns the token that resumes the session, and the first message of the next attempt. */
  resume(): { token: string; message: ServerMessage } | undefined;
  /** The first message of an attempt was too large. The next attempt starts without the session. */
  forgetToken(): void;
  /** A socket has a session, and is the current one from now on. `resume` is its first message, if it had one. */
  session(session: SessionMessage, resume?: string | Uint8Array): void;
  message(message: ServerMessage): void;
  /** The current socket has ended. `code` is undefined if another socket replaced it. */
  lost(code?: number): void;
  /**
   * Another socket is about to replace the current one: stop sending. Resolves when all answers have arrived.
   */
  pause(): Promise<void>;
  /** The current socket was not replaced: continue sending. */
  unpause(): void;
}

/** The connection of one client. */
export class Connection {
  state: State = closedState("not connected yet");
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #liveness: Liveness;
  /** The current socket, and the socket of the attempt that is under way. */
  #currentSocket: Socket | undefined;
  #nextSocket: Socket | undefined;
  /** The first message on the latter. */
  #nextResume: string | Uint8Array | undefined;
  #policy: RetryTerms;
  /** Attempts since the last stable connection. The delay grows with them. */
  #attemptCount = 0;
  /** Failed attempts since the last session. `maxAttempts` limits them. */
  #failureCount = 0;
  #connectedAt = 0;
  #wasConnected = false;
  readonly #failureLog: FailureLog;
  /** Whether the attempts were used up. When the network returns, the client tries again. */
  #hasGivenUp = false;
  /** Increases with every decision about attempts. Callbacks of an earlier generation do nothing. */
  #generation = 0;
  /** Whether an attempt is under way. It may still wait for its token. */
  #isAttempting = false;
  /** When the last move to another node began. */
  #movedAt = -Infinity;
  #cancelTimer = () => {};
  #unwatch: (() => void) | undefined;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
    this.#policy = options.retry ?? retryTerms;
    this.#failureLog = new FailureLog(options.logger, options.environment);
    this.#liveness = new Liveness(options.environment, {
      ping: () => this.send(this.#options.codec.encode({ type: "ping" })),
      lost: (reason) => this.#currentSocket?.close(LOST, reason),
    });
  }

  /** Starts to connect, unless the connection is open already. */
  open(): void {
    if (this.state.name !== "closed") return;
    this.#unwatch ??= this.#options.environment.watch((signal) => this.#handleSignal(signal));
    this.#wasConnected = false;
    this.#startSeries();
  }

  /** Starts an attempt at once, and closes the current socket. */
  reconnect(): void {
    if (!this.#unwatch) return this.open();
    this.#currentSocket?.close(LOST, "reconnecting");
    // A listener may have closed the client meanwhile.
    if (this.state.name !== "closed" || this.#hasGivenUp) this.#startSeries();
  }

  /** Closes the connection, and stops trying. */
  close(code: number, reason: string): void {
    this.#stopTrying(code, reason, false);
  }

  send(frame: string | Uint8Array): void {
    this.#currentSocket?.send(frame);
  }

  /** Starts a new series of attempts at once. */
  #startSeries(): void {
    this.#attemptCount = 0;
    this.#failureCount = 0;
    this.#hasGivenUp = false;
    this.#startAttempt();
  }

  #startAttempt(cause: { code?: number; reason?: string } = {}): void {
    const generation = this.#cancelAttempt();
    this.#isAttempting = true;
    const failed = (code: number, reason: string) => {
      if (generation !== this.#generation) return;
      this.#scheduleAttempt(code, reason);
      this.#failureLog.failed(this.#options.url, this.state, code, reason);
    };
    if (this.#setUnconnected(cause)) void this.#openSocket(generation, failed);
  }

  /**
   * Opens the next socket. Exactly one of three things follows: a session, a call of `failed`, or a new
   * generation.
   */
  async #openSocket(generation: number, failed: (code: number, reason: string) => void): Promise<void> {
    const { environment, getToken, logger, connectTimeout, ...options } = this.#options;
    const giveUp = () => {
      this.#nextSocket?.abandon(LOST);
      failed(LOST, "no session in time");
    };
    const cancel = environment.after(connectTimeout, giveUp);
    this.#cancelTimer = cancel;
    if (getToken !== undefined && typeof getToken !== "function") return failed(BAD_REQUEST, "getToken is not a function");
    let bearer: string | undefined;
    try {
      bearer = await getToken?.({ isRefresh: false });
    } catch (error) {
      cancel();
      this.#failureLog.log("no token", { error });
      return failed(LOST, "no token");
    }
    if (generation !== this.#generation) return;
    const resume = this.#events.resume();
    const message = resume && options.codec.encode(resume.message);
    const WebSocket = options.WebSocket();
    if (!WebSocket) return failed(BAD_REQUEST, "no WebSocket here: pass one");
    let socket: Socket;
    let fault = "the address is not a URL";
    try {
      const url = options.url();
      fault = "bad address or token";
      const after = (delay: number, run: () => void) => void environment.after(delay, run);
      socket = new Socket({ ...options, WebSocket, url, bearer, resume: resume?.token, after, log: messageLog(logger) }, {
        open: () => message && socket.send(message),
        message: (message) => this.#receive(socket, message),
        closed: (code, reason, status) => {
          if (socket === this.#currentSocket) return this.#connectionLost(code, reason);
          cancel();
          if (code === MESSAGE_TOO_BIG) this.#events.forgetToken();
          failed(closeCodeOf(status, getToken !== undefined) ?? code, reason);
        },
      });
    } catch {
      cancel();
      // A further attempt would fail as well. The runtime's error is not logged, because it may contain the
      // token.
      return failed(BAD_REQUEST, fault);
    }
    this.#nextSocket = socket;
    this.#nextResume = message;
  }

  #receive(socket: Socket, message: ServerMessage): void {
    if (message.type === "session" && socket === this.#nextSocket) this.#makeCurrent(socket, message as unknown as SessionMessage);
    if (socket !== this.#currentSocket) return;
    this.#liveness.heard();
    switch (typeOf(message)) {
      case "session":
        return;
      case "retry_policy": {
        const terms = termsOf(message as unknown as RetryMessage);
        this.#setTerms(terms);
        return this.#events.message({ ...terms, type: message.type });
      }
      case "reconnect":
        return this.#scheduleMove(message["after"]);
    }
    this.#events.message(message);
  }

  /** Makes this socket the current one. */
  #makeCurrent(socket: Socket, session: SessionMessage): void {
    const { environment } = this.#options;
    this.#cancelTimer();
    const generation = ++this.#generation;
    this.#isAttempting = false;
    const former = this.#currentSocket;
    this.#nextSocket = undefined;
    this.#currentSocket = socket;
    // If the session was resumed, the server closes the old socket. Otherwise the old session ends here.
    if (former) {
      former.abandon(session.resumed ? LOST : NORMAL, "moved");
      this.#events.lost();
      if (generation !== this.#generation) return;
    } else {
      this.#connectedAt = environment.now();
    }
    this.#wasConnected = true;
    this.#failureCount = 0;
    const info = sessionOf(session);
    this.#setTerms(info.retry);
    this.#liveness.start(session.heartbeat);
    const fields = { connection: info.connectionId, resumed: info.resumed };
    this.#failureLog.connected(fields);
    const resume = this.#nextResume;
    if (this.#setState({ name: "connected", session: info })) this.#events.session(session, resume);
  }

  /**
   * Moves to another node of the server at a random time in the window. If the move fails, the current socket
   * stays.
   */
  #scheduleMove(window: unknown): void {
    const { environment, logger } = this.#options;
    const [min, max] = (Array.isArray(window) ? window : []) as [number, number];
    const planned = min + environment.random() * (max - min);
    if (!(planned >= 0)) return; // the window is invalid
    // Repeated requests to move keep a minimum interval between two moves.
    const remaining = this.#movedAt + MIN_MOVE_INTERVAL - environment.now();
    // The remaining time is longer than the interval only after the clock was set back.
    const wait = Math.max(planned, Math.min(remaining, MIN_MOVE_INTERVAL));
    const generation = this.#cancelAttempt();
    this.#events.unpause(); // an earlier window may have paused the requests
    const failed = (code: number, reason: string) => {
      if (generation !== this.#generation) return;
      if (!this.#currentSocket) return this.#scheduleAttempt(code, reason);
      logger.debug("not moved", { code, reason });
      this.#cancelAttempt();
      this.#events.unpause();
    };
    this.#cancelTimer = environment.after(wait, async () => {
      this.#movedAt = environment.now();
      // Answers that take longer than this are lost with the current socket.
      const timeout = new Promise<void>((resolve) => (this.#cancelTimer = environment.after(ANSWERS_TIMEOUT, resolve)));
      await Promise.race([this.#events.pause(), timeout]);
      if (generation !== this.#generation) return;
      this.#cancelTimer();
      void this.#openSocket(generation, failed);
    });
  }

  #connectionLost(code: number, reason: string): void {
    this.#currentSocket = undefined;
    this.#liveness.stop();
    // The server may close this socket because the next one has taken the session over.
    const isMoving = this.#nextSocket !== undefined && shouldReconnect(code);
    const generation = isMoving ? this.#generation : this.#cancelAttempt();
    this.#isAttempting = isMoving;
    this.#options.logger.debug("connection lost", { code, reason });
    if (this.#options.environment.now() - this.#connectedAt >= STABLE_AFTER) this.#attemptCount = 0;
    this.#events.lost(code);
    if (generation !== this.#generation) return;
    if (!isMoving) {
      this.#scheduleAttempt(code, reason);
      if (this.state.name === "closed") this.#options.logger.warn("closed permanently", { code, reason });
    } else if (code !== REPLACED) this.#setUnconnected({ code, reason });
  }

  /** Schedules the next attempt, unless the code or the policy forbids it. */
  #scheduleAttempt(code: number, reason: string): void {
    const generation = this.#cancelAttempt();
    if (!shouldReconnect(code)) return this.#stopTrying(code, reason, false);
    const { environment } = this.#options;
    // Without a network there is no attempt, so none is counted.
    if (!environment.isOnline()) return void this.#setUnconnected({ code, reason });
    this.#attemptCount++;
    const maxAttempts = this.#policy.maxAttempts ?? Infinity;
    if (++this.#failureCount > maxAttempts) return this.#stopTrying(code, `gave up after ${maxAttempts} attempts`, true);
    const wait = delayBefore(this.#policy, this.#attemptCount, environment.random());
    const cause = { code, reason };
    this.#cancelTimer = environment.after(wait, () => generation === this.#generation && this.#startAttempt(cause));
    this.#setUnconnected({ retryAt: environment.now() + wait, ...cause });
  }

  /** Stops all attempts, and ends the connection. */
  #stopTrying(code: number, reason: string, hasGivenUp: boolean): void {
    // Any other code would tell the server that the client reconnects.
    const closeCode = code >= 4500 && code < 5000 ? code : NORMAL;
    // The next socket may already have the session.
    this.#nextSocket?.abandon(closeCode, reason);
    const generation = this.#cancelAttempt();
    const current = this.#currentSocket;
    this.#currentSocket = undefined;
    this.#liveness.stop();
    this.#hasGivenUp = hasGivenUp;
    if (!hasGivenUp) {
      this.#unwatch?.();
      this.#unwatch = undefined;
    }
    if (this.state.name === "closed" && this.state.code) return;
    current?.abandon(closeCode, reason);
    if (current) this.#events.lost();
    if (generation !== this.#generation) return;
    this.#options.logger.debug("closed", { code, reason });
    this.#setState({ ...closedState(reason, hasGivenUp), code });
  }

  /** Cancels the attempt that is under way, but keeps the current socket. Returns the new generation. */
  #cancelAttempt(): number {
    this.#cancelTimer();
    this.#isAttempting = false;
    this.#nextSocket?.abandon(LOST);
    this.#nextSocket = undefined;
    return ++this.#generation;
  }

  #handleSignal(signal: Signal): void {
    if (this.#currentSocket) return this.#liveness.check();
    const { state } = this;
    if (signal === "offline") {
      if (state.name === "closed" || state.name === "connected" || state.retryAt === undefined) return;
      this.#cancelAttempt();
      this.#attemptCount--;
      this.#failureCount--;
      return void this.#setUnconnected({ code: state.code ?? LOST, reason: "offline" });
    }
    const isWaiting = state.name !== "closed" && !this.#isAttempting && this.#options.environment.isOnline();
    if (this.#hasGivenUp || isWaiting) this.#startSeries();
  }

  /** Applies the server's policy, unless the application has set one. */
  #setTerms(terms: RetryTerms | undefined): void {
    this.#policy = this.#options.retry ?? terms ?? this.#policy;
  }

  /** Reports that there is no connection, and that the client tries to get one. */
  #setUnconnected(cause: { retryAt?: number; code?: number; reason?: string }): boolean {
    return this.#setState({ name: this.#wasConnected ? "reconnecting" : "connecting", attempt: this.#attemptCount, ...cause });
  }

  /** Sets the state and notifies the owner. Returns false if a listener has changed the state again. */
  #setState(state: State): boolean {
    const generation = this.#generation;
    this.state = state;
    this.#events.state(state);
    return generation === this.#generation;
  }
}

function closedState(reason: string, hasGivenUp = false): State & { name: "closed" } {
  return { name: "closed", reason, error: new HauynaError(hasGivenUp ? "gave_up" : "closed", reason || "closed") };
}

/** Milliseconds to wait for pending answers before another socket replaces the current one. */
const ANSWERS_TIMEOUT = 2000;
/** Milliseconds: the minimum interval between two moves. */
const MIN_MOVE_INTERVAL = 10_000;
