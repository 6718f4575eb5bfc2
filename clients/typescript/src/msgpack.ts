// MessagePack, the part of it that `hauyna.v1` uses: string keys, no extension types. The encoder writes the
// shortest form of each value; the decoder accepts every form. The functions share one buffer, because a
// closure or an object for each field costs more than the field itself. `scripts/codecs.mjs` compares it with
// JSON.

/**
 * Encodes one value. Throws a TypeError for functions, symbols, and values that are nested more than 64 deep.
 */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  // A `toJSON` method or a getter of the application may call this function during the encoding.
  const start = outputEnd;
  try {
    write(value, 0);
    return output.slice(start, outputEnd);
  } finally {
    outputEnd = start;
  }
}

/**
 * Decodes one value. Throws a RangeError if the data is incomplete, and a TypeError if it is not MessagePack.
 */
export function decode(data: string | ArrayBuffer): unknown {
  view = new DataView(data as ArrayBuffer);
  input = new Uint8Array(view.buffer as ArrayBuffer);
  readIndex = 0;
  const value = read(0);
  if (readIndex !== input.length) throw new RangeError(NOT_MSGPACK);
  return value;
}

// The output buffer, filled up to `outputEnd`. It keeps the size that the largest message needed.
let output = new Uint8Array();
let outputView: DataView;
let outputEnd = 0;

function write(value: unknown, depth: number): void {
  if (depth > MAX_DEPTH) throw new TypeError(NOT_MSGPACK);
  reserve(9);
  if (typeof value === "string") writeText(value);
  else if (typeof value === "number") writeNumber(value);
  else if (value == null) put(1, 0xc0);
  else if (typeof value === "boolean") put(1, value ? 0xc3 : 0xc2);
  else if (typeof value === "bigint" && value < 2n ** 64n && value >= -(2n ** 63n)) {
    writeHalves(value < 0, Number(value >> 32n), Number(value & 0xffffffffn));
  }
  else if (typeof value !== "object") throw new TypeError(NOT_MSGPACK);
  else if (value instanceof Uint8Array) {
    writeSize(0, 0, 0xc4, value.length);
    writeBytes(value);
  } else if (Array.isArray(value)) {
    writeSize(0x90, 16, 0xdb, value.length);
    for (const item of value) write(item, depth + 1);
  } else if (typeof (value as Fields)["toJSON"] === "function") {
    write((value as { toJSON(): unknown }).toJSON(), depth + 1);
  } else {
    writeMap(value as Fields, depth);
  }
}

function writeMap(value: Fields, depth: number): void {
  const names = Object.keys(value);
  const { length } = names;
  const fields = new Array<unknown>(length);
  let count = 0;
  // Undefined fields are left out. Each field is read once, because a getter may return another value the
  // next time.
  for (let n = 0; n < length; n++) if ((fields[n] = value[names[n] as string]) !== undefined) count++;
  reserve(5);
  writeSize(0x80, 16, 0xdd, count);
  for (let n = 0; n < length; n++) {
    if (fields[n] === undefined) continue;
    writeText(names[n] as string);
    write(fields[n], depth + 1);
  }
}

function writeNumber(value: number): void {
  if (Number.isInteger(value) && Math.abs(value) < 2 ** 63 && !Object.is(value, -0)) {
    if (value >= 2 ** 32 || value < -(2 ** 31)) writeHalves(value < 0, Math.floor(value / 2 ** 32), value);
    else if (value >= 0) writeSize(0, 128, 0xcc, value);
    // The sign of a negative number takes one bit.
    else writeSize(value, value < -32 ? 0 : Infinity, 0xd0, -2 * value - 1, value);
  } else if (Number.isFinite(value)) {
    output[outputEnd++] = 0xcb;
    outputView.setFloat64(outputEnd, value);
    outputEnd += 8;
  } else put(1, 0xc0); // null, as in JSON
}

/** Writes an integer of eight bytes from its two halves. */
function writeHalves(isNegative: boolean, high: number, low: number): void {
  output[outputEnd++] = isNegative ? 0xd3 : 0xcf;
  put(4, high);
  put(4, low);
}

function writeText(text: string): void {
  const { length } = text;
  const start = outputEnd;
  if (length < 64) {
    reserve(length + 2);
    writeSize(0xa0, 32, 0xd9, length);
    let bits = 0;
    for (let index = 0; index < length; index++) {
      const unit = text.charCodeAt(index);
      output[outputEnd++] = unit;
      bits |= unit;
    }
    if (bits < 128) return;
    // The text is not ASCII.
    outputEnd = start;
  }
  const bytes = (encoder ??= new TextEncoder()).encode(text);
  reserve(5);
  writeSize(0xa0, 32, 0xd9, bytes.length);
  writeBytes(bytes);
}

/**
 * Writes a size or an integer: in one byte below `limit`, otherwise after a marker. Arrays and maps have no
 * form with a size of one byte.
 */
function writeSize(short: number, limit: number, marker: number, size: number, value = size): void {
  if (size < limit) {
    output[outputEnd++] = short | value;
    return;
  }
  const power = size < 2 ** 8 && limit !== 16 ? 0 : size < 2 ** 16 ? 1 : 2;
  put(1, marker + power);
  put(1 << power, value);
}

function writeBytes(bytes: Uint8Array): void {
  reserve(bytes.length);
  output.set(bytes, outputEnd);
  outputEnd += bytes.length;
}

/** Writes an integer of at most four bytes in two's complement. The caller has reserved the space. */
function put(size: number, value: number): void {
  for (let bits = 8 * size; bits > 0; ) output[outputEnd++] = value >> (bits -= 8);
}

/** Ensures that the buffer has space for `size` more bytes. */
function reserve(size: number): void {
  if (outputEnd + size <= output.length) return;
  const larger = new Uint8Array(2 * (outputEnd + size) + 256);
  larger.set(output);
  output = larger;
  outputView = new DataView(larger.buffer);
}

// The input, read up to `readIndex`.
let input: Uint8Array<ArrayBuffer>;
let view: DataView;
let readIndex = 0;

function read(depth: number): unknown {
  if (depth > MAX_READ_DEPTH) throw new TypeError(NOT_MSGPACK);
  const marker = input[skip(1)] as number;
  if (marker < 0x80) return marker;
  if (marker < 0x90) return readMap(marker & 0xf, depth);
  if (marker < 0xa0) return readArray(marker & 0xf, depth);
  if (marker < 0xc0) return readText(marker & 0x1f);
  if (marker >= 0xe0) return marker - 0x100;
  // Most markers come in groups of four, for 1, 2, 4 and 8 bytes.
  const size = 1 << (marker & 3);
  if (marker >= 0xde) return readMap(readUint(size >> 1), depth);
  if (marker >= 0xdc) return readArray(readUint(2 * size), depth);
  if (marker >= 0xd9) return readText(readUint(size >> 1));
  if (marker >= 0xcc && marker < 0xd0) return readUint(size);
  if (marker >= 0xca && marker < 0xd4) return readNumber(marker, skip(size));
  if (marker >= 0xc4 && marker < 0xc7) return input.slice(skip(readUint(size)), readIndex);
  if (marker === 0xc0) return null;
  if (marker === 0xc2 || marker === 0xc3) return marker === 0xc3;
  throw new TypeError(NOT_MSGPACK);
}

/** Reads a float or a signed integer. */
function readNumber(marker: number, start: number): number {
  if (marker === 0xca) return view.getFloat32(start);
  if (marker === 0xcb) return view.getFloat64(start);
  if (marker === 0xd0) return view.getInt8(start);
  if (marker === 0xd1) return view.getInt16(start);
  return marker === 0xd2 ? view.getInt32(start) : Number(view.getBigInt64(start));
}

function readMap(count: number, depth: number): object {
  const map: Fields = {};
  for (let n = 0; n < count; n++) {
    const name = read(depth);
    if (typeof name !== "string") throw new TypeError(NOT_MSGPACK);
    const value = read(depth + 1);
    // As with JSON.parse, `__proto__` is an ordinary field.
    if (name !== "__proto__") map[name] = value;
    else Object.defineProperty(map, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return map;
}

function readArray(count: number, depth: number): unknown[] {
  const array = [];
  for (let n = 0; n < count; n++) array.push(read(depth + 1));
  return array;
}

function readText(length: number): string {
  const start = skip(length);
  if (length < 32) {
    let hash = 0;
    let bits = 0;
    for (let n = start; n < readIndex; n++) {
      const byte = input[n] as number;
      hash = (hash * 31 + byte) & 511;
      bits |= byte;
    }
    if (bits < 128) {
      // Names, types and users repeat, so the text is mostly in the cache already.
      const text = texts[hash];
      let n = text?.length === length ? 0 : -1;
      while (n >= 0 && n < length) n = (text as string).charCodeAt(n) === input[start + n] ? n + 1 : -1;
      return n < 0 ? (texts[hash] = String.fromCharCode(...input.subarray(start, readIndex))) : (text as string);
    }
  }
  return (decoder ??= createDecoder()).decode(input.subarray(start, readIndex));
}

/**
 * Creates a decoder that throws for invalid UTF-8. Runtimes such as old Hermes accept no options; their
 * decoder replaces invalid bytes.
 */
function createDecoder(): TextDecoder {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  } catch {
    return new TextDecoder();
  }
}

function readUint(size: number): number {
  let value = 0;
  for (let n = skip(size); n < readIndex; n++) value = value * 256 + (input[n] as number);
  return value;
}

function skip(size: number): number {
  const start = readIndex;
  readIndex += size;
  if (readIndex > input.length) throw new RangeError(NOT_MSGPACK);
  return start;
}

type Fields = Record<string, unknown>;

// Created on first use, because some test environments do not have them.
let encoder: TextEncoder | undefined;
let decoder: TextDecoder | undefined;

/** Short texts that were read, by their hash. */
const texts: string[] = [];
/** The maximum depth that servers accept from clients. */
const MAX_DEPTH = 64;
/**
 * The maximum depth of messages from the server. It is larger, because the application's content has no limit
 * and a history adds levels. An unreadable message ends the connection.
 */
const MAX_READ_DEPTH = 1000;
const NOT_MSGPACK = "not MessagePack";
