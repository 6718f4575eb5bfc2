// The connection loop: when the next attempt starts, which socket is the current one, and when the client
// stops. It reads only the messages `session`, `retry_policy` and `reconnect`, and passes all others to its
// owner.

import { STABLE, delay, retryTerms } from "./backoff.js";
import { BAD_REQUEST, MESSAGE_TOO_BIG, NORMAL, REPLACED } from "./close-codes.js";
import type { Codec } from "./codec.js";
import type { Environment, Signal } from "./environment.js";
import { HauynaError } from "./error.js";
import { FailureLog, closeCodeOf } from "./failures.js";
import { Liveness } from "./liveness.js";
import { type Logger, messageLog } from "./logger.js";
import { type RetryTerms, type SessionInfo, sessionOf, termsOf } from "./face.js";
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
  cannotResume(): void;
  /** A socket has a session, and is the current one from now on. */
  session(session: SessionMessage): void;
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
  state: State = closed("not connected yet");
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #liveness: Liveness;
  /** The current socket, and the socket of the attempt that is under way. */
  #socket: Socket | undefined;
  #next: Socket | undefined;
  #retry: RetryTerms;
  /** Attempts since the last stable connection. The delay grows with them. */
  #attempt = 0;
  /** Failed attempts since the last session. `maxAttempts` limits them. */
  #failures = 0;
  #since = 0;
  #wasConnected = false;
  readonly #failureLog: FailureLog;
  /** Whether the attempts were used up. When the network returns, the client tries again. */
  #hasGivenUp = false;
  /** Increases with every decision about attempts. Callbacks of an earlier generation do nothing. */
  #turn = 0;
  /** Whether an attempt is under way. It may still wait for its token. */
  #isTrying = false;
  /** When the last move to another node began. */
  #movedAt = -Infinity;
  #cancel = () => {};
  #unwatch: (() => void) | undefined;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
    this.#retry = options.retry ?? retryTerms;
    this.#failureLog = new FailureLog(options.logger, options.environment);
    this.#liveness = new Liveness(options.environment, {
      ping: () => this.send(this.#options.codec.encode({ type: "ping" })),
      lost: (reason) => this.#socket?.close(LOST, reason),
    });
  }

  /** Starts to connect, unless the connection is open already. */
  open(): void {
    if (this.state.name !== "closed") return;
    this.#unwatch ??= this.#options.environment.watch((signal) => this.#react(signal));
    this.#wasConnected = false;
    this.#now();
  }

  /** Starts an attempt at once, and closes the current socket. */
  reconnect(): void {
    if (!this.#unwatch) return this.open();
    this.#socket?.close(LOST, "reconnecting");
    // A listener may have closed the client meanwhile.
    if (this.state.name !== "closed" || this.#hasGivenUp) this.#now();
  }

  /** Closes the connection, and stops trying. */
  close(code: number, reason: string): void {
    this.#end(code, reason, false);
  }

  send(frame: string | Uint8Array): void {
    this.#socket?.send(frame);
  }

  /** Starts a new series of attempts at once. */
  #now(): void {
    this.#attempt = 0;
    this.#failures = 0;
    this.#hasGivenUp = false;
    this.#try();
  }

  #try(why: { code?: number; reason?: string } = {}): void {
    const turn = this.#stop();
    this.#isTrying = true;
    const failed = (code: number, reason: string) => {
      if (turn !== this.#turn) return;
      this.#comeBack(code, reason);
      this.#failureLog.failed(this.#options.url, this.state, code, reason);
    };
    if (this.#seek(why)) void this.#open(turn, failed);
  }

  /**
   * Opens the next socket. Exactly one of three things follows: a session, a call of `failed`, or a new
   * generation.
   */
  async #open(turn: number, failed: (code: number, reason: string) => void): Promise<void> {
    const { environment, getToken, logger, connectTimeout, ...options } = this.#options;
    const late = () => {
      this.#next?.abandon(LOST);
      failed(LOST, "no session in time");
    };
    const cancel = environment.after(connectTimeout, late);
    this.#cancel = cancel;
    if (getToken !== undefined && typeof getToken !== "function") return failed(BAD_REQUEST, "getToken is not a function");
    let bearer: string | undefined;
    try {
      bearer = await getToken?.({ isRefresh: false });
    } catch (error) {
      cancel();
      this.#failureLog.tell("no token", { error });
      return failed(LOST, "no token");
    }
    if (turn !== this.#turn) return;
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
          if (socket === this.#socket) return this.#lost(code, reason);
          cancel();
          if (code === MESSAGE_TOO_BIG) this.#events.cannotResume();
          failed(closeCodeOf(status, getToken !== undefined) ?? code, reason);
        },
      });
    } catch {
      cancel();
      // A further attempt would fail as well. The runtime's error is not logged, because it may contain the
      // token.
      return failed(BAD_REQUEST, fault);
    }
    this.#next = socket;
  }

  #receive(socket: Socket, message: ServerMessage): void {
    if (message.type === "session" && socket === this.#next) this.#take(socket, message as unknown as SessionMessage);
    if (socket !== this.#socket) return;
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
        return this.#handOver(message["after"]);
    }
    this.#events.message(message);
  }

  /** Makes this socket the current one. */
  #take(socket: Socket, session: SessionMessage): void {
    const { environment } = this.#options;
    this.#cancel();
    const turn = ++this.#turn;
    this.#isTrying = false;
    const old = this.#socket;
    this.#next = undefined;
    this.#socket = socket;
    // If the session was resumed, the server closes the old socket. Otherwise the old session ends here.
    if (old) {
      old.abandon(session.resumed ? LOST : NORMAL, "moved");
      this.#events.lost();
      if (turn !== this.#turn) return;
    } else {
      this.#since = environment.now();
    }
    this.#wasConnected = true;
    this.#failures = 0;
    const info = sessionOf(session);
    this.#setTerms(info.retry);
    this.#liveness.start(session.heartbeat);
    const fields = { connection: info.connectionId, resumed: info.resumed };
    this.#failureLog.connected(fields);
    if (this.#become({ name: "connected", session: info })) this.#events.session(session);
  }

  /**
   * Moves to another node of the server at a random time in the window. If the move fails, the current socket
   * stays.
   */
  #handOver(window: unknown): void {
    const { environment, logger } = this.#options;
    const [min, max] = (Array.isArray(window) ? window : []) as [number, number];
    const planned = min + environment.random() * (max - min);
    if (!(planned >= 0)) return; // the window is invalid
    // Repeated requests to move keep a minimum interval between two moves.
    const rest = this.#movedAt + BETWEEN_MOVES - environment.now();
    // The remaining time is longer than the interval only after the clock was set back.
    const wait = Math.max(planned, Math.min(rest, BETWEEN_MOVES));
    const turn = this.#stop();
    this.#events.unpause(); // an earlier window may have paused the requests
    const failed = (code: number, reason: string) => {
      if (turn !== this.#turn) return;
      if (!this.#socket) return this.#comeBack(code, reason);
      logger.debug("not moved", { code, reason });
      this.#stop();
      this.#events.unpause();
    };
    this.#cancel = environment.after(wait, async () => {
      this.#movedAt = environment.now();
      // Answers that take longer than this are lost with the current socket.
      const late = new Promise<void>((resolve) => (this.#cancel = environment.after(ANSWERS, resolve)));
      await Promise.race([this.#events.pause(), late]);
      if (turn !== this.#turn) return;
      this.#cancel();
      void this.#open(turn, failed);
    });
  }

  #lost(code: number, reason: string): void {
    this.#socket = undefined;
    this.#liveness.stop();
    // The server may close this socket because the next one has taken the session over.
    const isMoving = this.#next !== undefined && shouldReconnect(code);
    const turn = isMoving ? this.#turn : this.#stop();
    this.#isTrying = isMoving;
    this.#options.logger.debug("connection lost", { code, reason });
    if (this.#options.environment.now() - this.#since >= STABLE) this.#attempt = 0;
    this.#events.lost(code);
    if (turn !== this.#turn) return;
    if (!isMoving) {
      this.#comeBack(code, reason);
      if (this.state.name === "closed") this.#options.logger.warn("closed permanently", { code, reason });
    } else if (code !== REPLACED) this.#seek({ code, reason });
  }

  /** Schedules the next attempt, unless the code or the policy forbids it. */
  #comeBack(code: number, reason: string): void {
    const turn = this.#stop();
    if (!shouldReconnect(code)) return this.#end(code, reason, false);
    const { environment } = this.#options;
    // Without a network there is no attempt, so none is counted.
    if (!environment.isOnline()) return void this.#seek({ code, reason });
    this.#attempt++;
    const most = this.#retry.maxAttempts ?? Infinity;
    if (++this.#failures > most) return this.#end(code, `gave up after ${most} attempts`, true);
    const wait = delay(this.#retry, this.#attempt, environment.random());
    const why = { code, reason };
    this.#cancel = environment.after(wait, () => turn === this.#turn && this.#try(why));
    this.#seek({ retryAt: environment.now() + wait, ...why });
  }

  /** Stops all attempts, and ends the connection. */
  #end(code: number, reason: string, hasGivenUp: boolean): void {
    // Any other code would tell the server that the client reconnects.
    const said = code >= 4500 && code < 5000 ? code : NORMAL;
    // The next socket may already have the session.
    this.#next?.abandon(said, reason);
    const turn = this.#stop();
    const socket = this.#socket;
    this.#socket = undefined;
    this.#liveness.stop();
    this.#hasGivenUp = hasGivenUp;
    if (!hasGivenUp) {
      this.#unwatch?.();
      this.#unwatch = undefined;
    }
    if (this.state.name === "closed" && this.state.code) return;
    socket?.abandon(said, reason);
    if (socket) this.#events.lost();
    if (turn !== this.#turn) return;
    this.#options.logger.debug("closed", { code, reason });
    this.#become({ ...closed(reason, hasGivenUp), code });
  }

  /** Cancels the attempt that is under way, but keeps the current socket. Returns the new generation. */
  #stop(): number {
    this.#cancel();
    this.#isTrying = false;
    this.#next?.abandon(LOST);
    this.#next = undefined;
    return ++this.#turn;
  }

  #react(signal: Signal): void {
    if (this.#socket) return this.#liveness.check();
    const { state } = this;
    if (signal === "offline") {
      if (state.name === "closed" || state.name === "connected" || state.retryAt === undefined) return;
      this.#stop();
      this.#attempt--;
      this.#failures--;
      return void this.#seek({ code: state.code ?? LOST, reason: "offline" });
    }
    const isWaiting = state.name !== "closed" && !this.#isTrying && this.#options.environment.isOnline();
    if (this.#hasGivenUp || isWaiting) this.#now();
  }

  /** Applies the server's policy, unless the application has set one. */
  #setTerms(terms: RetryTerms | undefined): void {
    this.#retry = this.#options.retry ?? terms ?? this.#retry;
  }

  /** Reports that there is no connection, and that the client tries to get one. */
  #seek(why: { retryAt?: number; code?: number; reason?: string }): boolean {
    return this.#become({ name: this.#wasConnected ? "reconnecting" : "connecting", attempt: this.#attempt, ...why });
  }

  /** Sets the state and notifies the owner. Returns false if a listener has changed the state again. */
  #become(state: State): boolean {
    const turn = this.#turn;
    this.state = state;
    this.#events.state(state);
    return turn === this.#turn;
  }
}

function closed(reason: string, hasGivenUp = false): State & { name: "closed" } {
  return { name: "closed", reason, error: new HauynaError(hasGivenUp ? "gave_up" : "closed", reason || "closed") };
}

/** Milliseconds to wait for pending answers before another socket replaces the current one. */
const ANSWERS = 2000;
/** Milliseconds: the minimum interval between two moves. */
const BETWEEN_MOVES = 10_000;
