// The frames of RFC 6455 on the client's side: bytes to whole messages and messages to bytes. No I/O.

import { randomBytes } from "node:crypto";

/** The opcodes of RFC 6455, 5.2. */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A whole message, or a control frame. */
export interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Returns one masked frame. */
export function writeFrame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  const extra = length < 126 ? 0 : length < 2 ** 16 ? 2 : 8;
  const start = 2 + extra;
  const frame = Buffer.alloc(start + 4 + length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extra === 0 ? length : extra === 2 ? 126 : 127);
  if (extra === 2) frame.writeUInt16BE(length, 2);
  if (extra === 8) frame.writeBigUInt64BE(BigInt(length), 2);
  const mask = randomBytes(4);
  mask.copy(frame, start);
  for (let n = 0; n < length; n++) frame[start + 4 + n] = (payload[n] as number) ^ (mask[n & 3] as number);
  return frame;
}

/** A violation of RFC 6455 by the server. `code` is the close code with which the client answers. */
export class FrameError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Reads frames from chunks of any size, and joins fragments. */
export class FrameReader {
  readonly #maxSize: number;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  /** The opcode of the fragmented message that is incomplete; 0 if there is none. */
  #opcode = 0;
  #fragments: Buffer[] = [];
  #fragmentBytes = 0;

  /** `largest` is the maximum number of bytes in a message. */
  constructor(maxSize: number) {
    this.#maxSize = maxSize;
  }

  /** Returns the frames that `bytes` complete. Throws a {@link FrameError}. */
  *read(bytes: Buffer): Generator<Frame> {
    this.#chunks.push(bytes);
    this.#bufferedBytes += bytes.length;
    for (let frame = this.#nextFrame(); frame; frame = this.#nextFrame()) {
      const whole = this.#joinFragments(frame);
      if (whole) yield whole;
    }
  }

  #nextFrame(): (Frame & { isLast: boolean }) | undefined {
    const head = this.#peekBytes(2);
    if (!head) return undefined;
    const [first, second] = head as unknown as [number, number];
    const opcode = first & 0xf;
    if (first & 0x70) throw new FrameError(1002, "reserved bits");
    if (second & 0x80) throw new FrameError(1002, "a masked frame");
    if (opcode >= 8 && (second > 125 || first < 0x80)) throw new FrameError(1002, "a long control frame");
    const extra = second < 126 ? 0 : second === 126 ? 2 : 8;
    const start = this.#peekBytes(2 + extra);
    if (!start) return undefined;
    const length = extra === 0 ? second : extra === 2 ? start.readUInt16BE(2) : Number(start.readBigUInt64BE(2));
    if (length + this.#fragmentBytes > this.#maxSize) throw new FrameError(1009, "a message too long");
    if (this.#bufferedBytes < start.length + length) return undefined;
    this.#takeBytes(start.length);
    return { opcode, payload: this.#takeBytes(length), isLast: first >= 0x80 };
  }

  #joinFragments({ opcode, payload, isLast }: Frame & { isLast: boolean }): Frame | undefined {
    if (opcode >= 8) {
      if (opcode > OPCODE.pong) throw new FrameError(1002, "an unknown opcode");
      return { opcode, payload };
    }
    const isFirst = opcode !== OPCODE.continuation;
    if (opcode > OPCODE.binary || isFirst !== (this.#opcode === 0)) throw new FrameError(1002, "fragments out of order");
    if (isFirst && isLast) return { opcode, payload };
    if (isFirst) this.#opcode = opcode;
    this.#fragments.push(payload);
    this.#fragmentBytes += payload.length;
    if (!isLast) return undefined;
    const whole = { opcode: this.#opcode, payload: Buffer.concat(this.#fragments) };
    this.#opcode = 0;
    this.#fragments = [];
    this.#fragmentBytes = 0;
    return whole;
  }

  /** Returns the next bytes without removing them. */
  #peekBytes(size: number): Buffer | undefined {
    if (this.#bufferedBytes < size) return undefined;
    const first = this.#chunks[0] as Buffer;
    if (first.length >= size) return first.subarray(0, size);
    this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#peekBytes(size);
  }

  #takeBytes(size: number): Buffer {
    if (size === 0) return Buffer.alloc(0);
    const first = this.#chunks[0] as Buffer;
    if (first.length < size) this.#chunks = [Buffer.concat(this.#chunks)];
    const whole = this.#chunks[0] as Buffer;
    this.#bufferedBytes -= size;
    if (whole.length === size) this.#chunks.shift();
    else this.#chunks[0] = whole.subarray(size);
    return whole.subarray(0, size);
  }
}
