// The two ends of one fake socket: the WebSocket of the client, and the connection of the server. Everything
// between them is asynchronous and in order, and uses only promises.

import { type Codec, type WebSocketLike, json, msgpack } from "hauyna";

/** A message on the wire. */
export interface WireMessage {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The callbacks of the server for a connection. */
export interface ConnectionHost {
  opened(connection: FakeConnection): void;
  received(connection: FakeConnection, message: WireMessage): void;
  /** The client has closed the connection, or the network was cut. */
  closed(connection: FakeConnection, code: number): void;
}

/** The server's end. */
export class FakeConnection {
  readonly url: string;
  readonly protocols: readonly string[];
  readonly id: string;
  user = "";
  /** The session of the connection. */
  session: object | undefined;
  isOpen = false;
  /** Whether it has ended, or the client has closed it before it was open. */
  isOver = false;
  readonly #socket: FakeSocket;
  readonly #codec: Codec;

  constructor(id: string, socket: FakeSocket, url: string, protocols: readonly string[]) {
    this.id = id;
    this.url = url;
    this.protocols = protocols;
    this.#socket = socket;
    this.#codec = protocols.includes(msgpack.protocol) ? msgpack : json;
  }

  /** Returns the rest of the sub-protocol with this prefix: the token of a session, or the credentials. */
  protocolSuffix(prefix: string): string | undefined {
    return this.protocols.find((protocol) => protocol.startsWith(prefix))?.slice(prefix.length);
  }

  /** Tells the client that the socket is open. */
  open(): void {
    this.#socket.onopen?.(undefined as never);
  }

  send(message: object): void {
    const frame = this.#codec.encode(message);
    const data = typeof frame === "string" ? frame : frame.buffer;
    void Promise.resolve().then(() => this.isOpen && this.#socket.onmessage?.({ data } as never));
  }

  decode(data: string | Uint8Array): WireMessage {
    return this.#codec.decode(typeof data === "string" ? data : data.slice().buffer) as WireMessage;
  }

  /** Ends the socket. Code 1006 ends it without a close frame, as a lost network does. */
  end(code: number, reason = "", status?: number): void {
    this.isOpen = false;
    this.isOver = true;
    void Promise.resolve().then(() => this.#socket.onclose?.({ code, reason, status } as never));
  }
}

/** The client's end. */
export class FakeSocket implements WebSocketLike {
  binaryType = "";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onclose: ((event: { code: number; reason: string; status?: number } & never) => void) | null = null;
  onerror: ((event: { message?: unknown } & never) => void) | null = null;
  readonly #connection: FakeConnection;
  readonly #host: ConnectionHost;

  constructor(host: ConnectionHost, id: string, url: string, protocols: readonly string[]) {
    this.#host = host;
    this.#connection = new FakeConnection(id, this, url, protocols);
    void Promise.resolve().then(() => this.#connection.isOver || host.opened(this.#connection));
  }

  send(data: string | Uint8Array): void {
    const connection = this.#connection;
    if (!connection.isOpen) return;
    const message = connection.decode(data);
    void Promise.resolve().then(() => connection.isOpen && this.#host.received(connection, message));
  }

  close(code = 1005, reason = ""): void {
    const connection = this.#connection;
    if (connection.isOver) return;
    connection.end(code, reason);
    this.#host.closed(connection, code);
  }
}
