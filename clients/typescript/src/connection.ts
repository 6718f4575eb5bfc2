// The loop of attempts: when to open the next socket, which one counts, and when to stop. Knows of messages only
// `session`, `retry_policy` and `reconnect`; everything else goes to its owner.

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

/** How the connection is. */
export type State =
  /** Not connected yet, or no more, and trying: now, or at `retryAt` (milliseconds since the Unix epoch). */
  | {
      readonly name: "connecting" | "reconnecting";
      /** The number of the attempt; 0 before anything has failed. */
      readonly attempt: number;
      /** Nothing is tried before; undefined while an attempt is under way, and while there is no network. */
      readonly retryAt?: number;
      /** Why the last connection or attempt ended. */
      readonly code?: number;
      readonly reason?: string;
    }
  | { readonly name: "connected"; readonly session: SessionInfo }
  /** Not trying. `error` is what requests fail with: its kind is `closed`, or `gave_up` where the attempts were used up. */
  | { readonly name: "closed"; readonly code?: number; readonly reason: string; readonly error: HauynaError };

/** Why a token is asked for. */
export interface TokenContext {
  /** For a connection that stands, whose credentials end soon; else for a new one. */
  readonly isRefresh: boolean;
}

/** What is needed for attempts. */
export interface ConnectionOptions {
  /** The address; fails where it is none. */
  readonly url: () => string;
  readonly codec: Codec;
  /** The class of sockets, where the runtime has one. */
  readonly WebSocket: () => WebSocketConstructor | undefined;
  readonly environment: Environment;
  readonly logger: Logger;
  readonly connectTimeout: number;
  readonly retry?: RetryTerms | undefined;
  readonly getToken?: ((context: TokenContext) => Promise<string | undefined> | string | undefined) | undefined;
}

/** What the owner of a connection does. */
export interface ConnectionEvents {
  state(state: State): void;
  /** What the next attempt says to resume the session: its token, and its first message. */
  resume(): { token: string; message: ServerMessage } | undefined;
  /** The first message of an attempt was too large: the next one begins without the session. */
  cannotResume(): void;
  /**
   * A socket has a session; it is the one that counts from now on. `resume` is the first message on it, if there was
   * one.
   */
  session(session: SessionMessage, resume?: string | Uint8Array): void;
  message(message: ServerMessage): void;
  /** The socket that counted is gone; with this close code, unless another takes its place. */
  lost(code?: number): void;
  /** Another socket is about to take over: nothing more is sent on this one. Resolves when its answers are here. */
  pause(): Promise<void>;
  /** It did not: this one goes on. */
  unpause(): void;
}

/** The connection of one client. */
export class Connection {
  state: State = closed("not connected yet");
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #liveness: Liveness;
  /** The socket that counts, and the one that may take its place. */
  #socket: Socket | undefined;
  #next: Socket | undefined;
  /** The first message on the latter. */
  #resume: string | Uint8Array | undefined;
  #retry: RetryTerms;
  /** Attempts since the last stable connection: the delay grows with them. */
  #attempt = 0;
  /** Failed attempts since the last session: `maxAttempts` limits them. */
  #failures = 0;
  #since = 0;
  #wasConnected = false;
  readonly #failureLog: FailureLog;
  /** It stopped because the attempts were used up: the network's return is a reason to try again. */
  #hasGivenUp = false;
  /** Changes with every decision about attempts: what an earlier one waits for means nothing. */
  #turn = 0;
  /** An attempt is under way; it may still wait for its token. */
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

  /** Begins, unless it has. */
  open(): void {
    if (this.state.name !== "closed") return;
    this.#unwatch ??= this.#options.environment.watch((signal) => this.#react(signal));
    this.#wasConnected = false;
    this.#now();
  }

  /** Tries at once; what is connected is given up for it. */
  reconnect(): void {
    if (!this.#unwatch) return this.open();
    this.#socket?.close(LOST, "reconnecting");
    // Unless somebody who was told of it has closed.
    if (this.state.name !== "closed" || this.#hasGivenUp) this.#now();
  }

  /** Ends, and stays so. */
  close(code: number, reason: string): void {
    this.#end(code, reason, false);
  }

  send(frame: string | Uint8Array): void {
    this.#socket?.send(frame);
  }

  /** Tries now, as if for the first time. */
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

  /** Opens the next socket. Exactly one of a session, `failed`, and another turn follows. */
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
      // It would never do. What the runtime says of it may hold the token.
      return failed(BAD_REQUEST, fault);
    }
    this.#next = socket;
    this.#resume = message;
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

  /** This socket counts from now on. */
  #take(socket: Socket, session: SessionMessage): void {
    const { environment } = this.#options;
    this.#cancel();
    const turn = ++this.#turn;
    this.#isTrying = false;
    const old = this.#socket;
    this.#next = undefined;
    this.#socket = socket;
    // Its session is here, if it was resumed, and the server closes it; else nothing is left to come back for.
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
    const resume = this.#resume;
    if (this.#become({ name: "connected", session: info })) this.#events.session(session, resume);
  }

  /** The server's node goes away: moves at a random moment of the window, and stays where that fails. */
  #handOver(window: unknown): void {
    const { environment, logger } = this.#options;
    const [min, max] = (Array.isArray(window) ? window : []) as [number, number];
    const planned = min + environment.random() * (max - min);
    if (!(planned >= 0)) return; // of a window that is none
    // However often it is said, one move does not follow the other at once.
    const rest = this.#movedAt + BETWEEN_MOVES - environment.now();
    // Longer than that only where the clock was set back.
    const wait = Math.max(planned, Math.min(rest, BETWEEN_MOVES));
    const turn = this.#stop();
    this.#events.unpause(); // by an earlier window
    const failed = (code: number, reason: string) => {
      if (turn !== this.#turn) return;
      if (!this.#socket) return this.#comeBack(code, reason);
      logger.debug("not moved", { code, reason });
      this.#stop();
      this.#events.unpause();
    };
    this.#cancel = environment.after(wait, async () => {
      this.#movedAt = environment.now();
      // Answers that take longer are lost with this connection.
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
    // The socket of a move may have the session already, which is why this one was closed.
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

  /** The next attempt, if there is to be one. */
  #comeBack(code: number, reason: string): void {
    const turn = this.#stop();
    if (!shouldReconnect(code)) return this.#end(code, reason, false);
    const { environment } = this.#options;
    // Without a network nothing is tried, and so nothing counts.
    if (!environment.isOnline()) return void this.#seek({ code, reason });
    this.#attempt++;
    const most = this.#retry.maxAttempts ?? Infinity;
    if (++this.#failures > most) return this.#end(code, `gave up after ${most} attempts`, true);
    const wait = delay(this.#retry, this.#attempt, environment.random());
    const why = { code, reason };
    this.#cancel = environment.after(wait, () => turn === this.#turn && this.#try(why));
    this.#seek({ retryAt: environment.now() + wait, ...why });
  }

  /** Nothing is tried any more. */
  #end(code: number, reason: string, hasGivenUp: boolean): void {
    // With any other code a client would be taken to come back.
    const said = code >= 4500 && code < 5000 ? code : NORMAL;
    // Where it is about to take over, the session may be with it.
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

  /** Ends what is under way, but not the socket that counts. Returns the new turn. */
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

  /** Takes the server's terms, unless the application gave its own. */
  #setTerms(terms: RetryTerms | undefined): void {
    this.#retry = this.#options.retry ?? terms ?? this.#retry;
  }

  /** There is no connection, and there is to be one. */
  #seek(why: { retryAt?: number; code?: number; reason?: string }): boolean {
    return this.#become({ name: this.#wasConnected ? "reconnecting" : "connecting", attempt: this.#attempt, ...why });
  }

  /** False where somebody who was told has decided otherwise. */
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

/** Milliseconds for the answers that are on their way, before another socket takes over. */
const ANSWERS = 2000;
/** Milliseconds from one move to the next, at least. */
const BETWEEN_MOVES = 10_000;
