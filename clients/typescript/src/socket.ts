// One attempt: a WebSocket with its address, sub-protocols and frames. It is told once how it ended, and knows
// nothing of what the messages mean.

import type { Codec } from "./codec.js";
import type { MessageLog } from "./logger.js";
import type { ServerMessage } from "./protocol.js";

/** As much of a browser's WebSocket as this client uses; any class of this shape will do. */
export interface WebSocketLike {
  binaryType: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown } & never) => void) | null;
  onclose: ((event: { code: number; reason: string; status?: number } & never) => void) | null;
  onerror: ((event: { message?: unknown } & never) => void) | null;
  /** Gets a string or a `Uint8Array`; what any socket takes differs with the library and the version of the compiler. */
  send(data: never): void;
  close(code?: number, reason?: string): void;
}

/** Opens a WebSocket. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** What an attempt needs. */
export interface Attempt {
  readonly url: string;
  readonly codec: Codec;
  readonly WebSocket: WebSocketConstructor;
  /** Credentials, and what resumes a session: both ride beside the encoding, and so stay out of addresses. */
  readonly bearer?: string | undefined;
  readonly resume?: string | undefined;
  /** Calls `run` after so many milliseconds. */
  after(delay: number, run: () => void): void;
  readonly log?: MessageLog | undefined;
}

/** What a socket tells its owner. */
export interface SocketEvents {
  open(): void;
  message(message: ServerMessage): void;
  /** The last thing it tells; with the HTTP status, where the runtime tells that of a handshake that was refused. */
  closed(code: number, reason: string, status?: number): void;
}

/** One socket, from its handshake to its end. */
export class Socket {
  readonly #socket: WebSocketLike;
  readonly #codec: Codec;
  readonly #events: SocketEvents;
  readonly #log: MessageLog | undefined;
  #ended = false;

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
      if (!this.#ended) events.open();
    };
    socket.onmessage = (event: { data: unknown }) => this.#ended || this.#read(event.data);
    socket.onclose = (event: { code: number; reason: string; status?: number }) => this.#end(event.code, event.reason, event.status);
    // What follows is `close`, except in runtimes that forget it before the connection is open.
    socket.onerror = (event: { message?: unknown }) => {
      if (!isOpen) attempt.after(0, () => this.#end(ABNORMAL, typeof event?.message === "string" ? event.message : ""));
    };
  }

  send(frame: string | Uint8Array): void {
    if (this.#ended) return;
    this.#log?.("sent", this.#codec.decode(typeof frame === "string" ? frame : frame.slice().buffer));
    this.#socket.send(frame as never);
  }

  /** Closes; `closed` is told at once, whatever the peer does. */
  close(code: number, reason = ""): void {
    if (this.#ended) return;
    this.abandon(code, reason);
    this.#events.closed(code, reason);
  }

  /** Closes, and tells nothing more. */
  abandon(code: number, reason = ""): void {
    if (this.#ended) return;
    this.#ended = true;
    try {
      this.#socket.close(code, reason);
    } catch {
      this.#socket.close(); // not a code or a reason that may be sent
    }
  }

  #read(data: unknown): void {
    try {
      const message = this.#codec.decode(data as string | ArrayBuffer);
      this.#log?.("received", message);
      if (isMessage(message)) this.#events.message(message);
    } catch {
      // Not of this encoding, or not what PROTOCOL.md says. Applications' listeners throw elsewhere.
      this.close(UNREADABLE, "unreadable");
    }
  }

  #end(code: number, reason: string, status?: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.closed(code, reason, status);
  }
}

function isMessage(value: unknown): value is ServerMessage {
  return typeof value === "object" && value !== null && typeof (value as ServerMessage).type === "string";
}

/** Codes of the application's range that say: I come back. A browser may send no others of that meaning. */
export const LOST = 4000;
const UNREADABLE = 4001;
/** The connection ended without a close (RFC 6455, 7.1.5). */
const ABNORMAL = 1006;
