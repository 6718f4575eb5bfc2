// The socket of one attempt: a WebSocket with its address, sub-protocols and frames. It reports its end once,
// and does not interpret messages.

import type { Codec } from "./codec.js";
import type { MessageLog } from "./logger.js";
import type { ServerMessage } from "./protocol.js";

/** The part of a browser's WebSocket that this client uses. Any class of this shape works. */
export interface WebSocketLike {
  binaryType: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown } & never) => void) | null;
  onclose: ((event: { code: number; reason: string; status?: number } & never) => void) | null;
  onerror: ((event: { message?: unknown } & never) => void) | null;
  /**
   * Sends a string or a `Uint8Array`. The parameter is `never`, because the accepted types differ between
   * libraries and versions of the compiler.
   */
  send(data: never): void;
  close(code?: number, reason?: string): void;
}

/** Opens a WebSocket. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** The parameters of an attempt. */
export interface Attempt {
  readonly url: string;
  readonly codec: Codec;
  readonly WebSocket: WebSocketConstructor;
  /**
   * The credentials, and the token that resumes a session. Both are sub-protocols beside the encoding, so
   * that addresses do not contain them.
   */
  readonly bearer?: string | undefined;
  readonly resume?: string | undefined;
  /** Calls `run` after `delay` milliseconds. */
  after(delay: number, run: () => void): void;
  readonly log?: MessageLog | undefined;
}

/** The callbacks of a socket's owner. */
export interface SocketEvents {
  open(): void;
  message(message: ServerMessage): void;
  /**
   * The socket has ended. It is the last call. `status` is the HTTP status of a refused handshake, if the
   * runtime reports it.
   */
  closed(code: number, reason: string, status?: number): void;
}

/** One socket, from its handshake to its end. */
export class Socket {
  readonly #socket: WebSocketLike;
  readonly #codec: Codec;
  readonly #events: SocketEvents;
  readonly #log: MessageLog | undefined;
  #hasEnded = false;

  constructor(attempt: Attempt, events: SocketEvents) {
    const { codec, bearer, resume } = attempt;
    const protocols = [codec.protocol];
    if (bearer) protocols.push(`hauyna.bearer.${bearer}`);
    if (resume) protocols.push(`hauyna.resume.${resume}`);
    this.#codec = codec;
    this.#events = events;
    this.#log = attempt.log;
    const socket = new attempt.WebSocket(attempt.url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let isOpen = false;
    socket.onopen = () => {
      isOpen = true;
      if (!this.#hasEnded) events.open();
    };
    socket.onmessage = (event: { data: unknown }) => this.#hasEnded || this.#readFrame(event.data);
    socket.onclose = (event: { code: number; reason: string; status?: number }) => this.#reportEnd(event.code, event.reason, event.status);
    // A `close` event follows, except in runtimes that leave it out before the connection is open.
    socket.onerror = (event: { message?: unknown }) => {
      if (!isOpen) attempt.after(0, () => this.#reportEnd(ABNORMAL, typeof event?.message === "string" ? event.message : ""));
    };
  }

  send(frame: string | Uint8Array): void {
    if (this.#hasEnded) return;
    this.#log?.("sent", this.#codec.decode(typeof frame === "string" ? frame : frame.slice().buffer));
    this.#socket.send(frame as never);
  }

  /** Closes the socket, and reports its end at once, without waiting for the peer. */
  close(code: number, reason = ""): void {
    if (this.#hasEnded) return;
    this.abandon(code, reason);
    this.#events.closed(code, reason);
  }

  /** Closes the socket, and reports nothing more. */
  abandon(code: number, reason = ""): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    try {
      this.#socket.close(code, reason);
    } catch {
      this.#socket.close(); // the code or the reason may not be sent
    }
  }

  #readFrame(data: unknown): void {
    try {
      const message = this.#codec.decode(data as string | ArrayBuffer);
      this.#log?.("received", message);
      if (isMessage(message)) this.#events.message(message);
    } catch {
      // The data is not in this encoding, or violates PROTOCOL.md. Listeners of the application do not throw
      // here.
      this.close(UNREADABLE, "unreadable");
    }
  }

  #reportEnd(code: number, reason: string, status?: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#events.closed(code, reason, status);
  }
}

function isMessage(value: unknown): value is ServerMessage {
  return typeof value === "object" && value !== null && typeof (value as ServerMessage).type === "string";
}

/**
 * A code of the application's range after which the client reconnects. Browsers may send no other such code.
 */
export const LOST = 4000;
const UNREADABLE = 4001;
/** The connection ended without a close frame (RFC 6455, 7.1.5). */
const ABNORMAL = 1006;
