// A WebSocket client (RFC 6455) on Node's http module, without extensions, with the part of the browser's
// interface that socket.ts uses. It is for Node 20, which has no WebSocket.

import { isUtf8 } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { type IncomingMessage, request as http } from "node:http";
import { request as https } from "node:https";
import type { Duplex } from "node:stream";
import { type Frame, FrameError, FrameReader, OPCODE, writeFrame } from "./node-frames.js";
import type { WebSocketLike } from "./socket.js";

type Message = string | ArrayBuffer | Uint8Array;

/** One WebSocket over a socket of Node. */
export class NodeWebSocket implements WebSocketLike {
  binaryType = "arraybuffer";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onclose: ((event: { code: number; reason: string } & never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly #request;
  readonly #reader = new FrameReader(MAX_MESSAGE);
  readonly #protocols: readonly string[];
  #stream: Duplex | undefined;
  #isClosing = false;
  #isClosed = false;
  /** The close event: what the peer's close frame says, or the error that ended the connection. */
  #closeEvent: { code: number; reason: string; status?: number } = { code: 1006, reason: "" };
  #closeTimer: NodeJS.Timeout | undefined;

  constructor(url: string, protocols: string[]) {
    const target = new URL(url);
    target.protocol = target.protocol.replace("ws", "http");
    target.hash = "";
    if (!protocols.every((name) => TOKEN.test(name))) throw new SyntaxError("a sub-protocol that is no token");
    this.#protocols = protocols;
    const key = randomBytes(16).toString("base64");
    const headers: Record<string, string> = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": key,
    };
    if (protocols.length > 0) headers["Sec-WebSocket-Protocol"] = protocols.join(", ");
    this.#request = (target.protocol === "https:" ? https : http)(target, { headers, agent: false });
    this.#request.on("upgrade", (response, stream, head) => this.#acceptUpgrade(response, stream, head, key));
    this.#request.on("response", (response) => {
      response.resume();
      if (response.statusCode) this.#closeEvent.status = response.statusCode;
      this.#abort(`the server answered ${response.statusCode ?? "nothing"}`);
    });
    this.#request.on("error", (error) => this.#abort(error.message));
    this.#request.end();
  }

  send(data: Message): void {
    if (!this.#stream || this.#isClosing) return;
    const isText = typeof data === "string";
    this.#sendFrame(isText ? OPCODE.text : OPCODE.binary, isText ? Buffer.from(data) : Buffer.from(data as Uint8Array));
  }

  close(code = 1000, reason = ""): void {
    // Browsers throw here as well, before they check the state of the connection.
    if (code !== 1000 && !isApplicationCode(code)) throw new RangeError("not a code of an application");
    if (this.#isClosing) return;
    if (!this.#stream) return this.#abort("closed before it was open");
    this.#sendClose(code, Buffer.from(reason).subarray(0, 123));
    this.#closeTimer = setTimeout(() => this.#stream?.destroy(), CLOSE_TIMEOUT);
  }

  #acceptUpgrade(response: IncomingMessage, stream: Duplex, head: Buffer, key: string): void {
    const { headers } = response;
    const accept = createHash("sha1").update(key + GUID).digest("base64");
    const isAccepted =
      headers["sec-websocket-accept"] === accept &&
      headers.upgrade?.toLowerCase() === "websocket" &&
      headers["sec-websocket-extensions"] === undefined &&
      this.#protocols.includes(headers["sec-websocket-protocol"] ?? "");
    if (!isAccepted || this.#isClosed) {
      stream.destroy();
      return this.#abort("the handshake is not one of a WebSocket");
    }
    this.#stream = stream;
    stream.on("error", (error) => (this.#closeEvent.reason ||= error.message));
    stream.on("close", () => this.#reportClose());
    stream.on("end", () => stream.end());
    stream.on("data", (bytes: Buffer) => this.#readBytes(bytes));
    this.onopen?.(undefined as never);
    if (head.length > 0) this.#readBytes(head);
  }

  #readBytes(bytes: Buffer): void {
    try {
      for (const frame of this.#reader.read(bytes)) {
        if (this.#isClosed) return;
        this.#handleFrame(frame);
      }
    } catch (error) {
      // RFC 6455, 7.1.7: the connection fails, and reports no code to the application (7.1.5).
      const { code, message } = error as FrameError;
      this.#closeEvent.reason = message;
      this.#sendClose(code, Buffer.from(message));
      this.#stream?.destroy();
    }
  }

  #handleFrame({ opcode, payload }: Frame): void {
    // Frames after a close frame are ignored.
    if (this.#isClosing && opcode !== OPCODE.close) return;
    switch (opcode) {
      case OPCODE.text:
        return this.onmessage?.({ data: text(payload) } as never);
      case OPCODE.binary:
        return this.onmessage?.({ data: new Uint8Array(payload).buffer } as never);
      case OPCODE.ping:
        return this.#sendFrame(OPCODE.pong, payload);
      case OPCODE.close: {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        if (!this.#isClosing) this.#closeEvent = { code, reason: payload.subarray(2).toString() };
        this.#sendClose(code === 1005 ? 1000 : isSendable(code) ? code : 1002, Buffer.alloc(0));
        // RFC 6455, 7.1.1: the server closes the TCP connection first, within a time limit.
        this.#closeTimer ??= setTimeout(() => this.#stream?.destroy(), CLOSE_TIMEOUT);
      }
    }
  }

  #sendClose(code: number, reason: Buffer): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    this.#stream?.write(writeFrame(OPCODE.close, Buffer.concat([payload, reason])));
  }

  #sendFrame(opcode: number, payload: Buffer): void {
    if (!this.#isClosing) this.#stream?.write(writeFrame(opcode, payload));
  }

  #abort(reason: string): void {
    this.#closeEvent.reason ||= reason;
    this.#request.destroy();
    this.#reportClose();
  }

  #reportClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isClosing = true;
    clearTimeout(this.#closeTimer);
    const event = this.#closeEvent;
    // The event must not fire within the call that caused it.
    queueMicrotask(() => this.onclose?.(event as never));
  }
}

function text(payload: Buffer): string {
  if (!isUtf8(payload)) throw new FrameError(1007, "not UTF-8");
  return payload.toString();
}

/** Whether an application may close with this code. */
function isApplicationCode(code: number): boolean {
  return Number.isInteger(code) && code >= 3000 && code < 5000;
}

/** Whether a close frame may contain this code (RFC 6455, 7.4). */
function isSendable(code: number): boolean {
  return isApplicationCode(code) || (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code));
}

/** A token of RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** The GUID of RFC 6455, 1.3. */
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** Milliseconds to wait until the peer closes. */
const CLOSE_TIMEOUT = 2000;
/** The maximum number of bytes in a message. */
const MAX_MESSAGE = 64 << 20;
