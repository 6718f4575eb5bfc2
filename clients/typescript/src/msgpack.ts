// MessagePack, as far as `hauyna.v1` uses it: string keys, no extension types. Writes the shortest form of each
// value and reads every form. Knows nothing of messages.

/** Writes one value. Throws a TypeError for functions, symbols, and what is nested more than 64 deep. */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.bytes.slice(0, writer.length);
}

/** Reads one value. Throws a RangeError where it is cut off, a TypeError where it is not of this kind. */
export function decode(bytes: Uint8Array<ArrayBuffer>): unknown {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new RangeError(FOREIGN);
  return value;
}

class Writer {
  bytes = new Uint8Array(256);
  length = 0;
  #view = new DataView(this.bytes.buffer);

  value(value: unknown, depth: number): void {
    if (depth > DEEPEST) throw new TypeError(FOREIGN);
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return this.#number(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "bigint":
        return this.#big(value);
      case "undefined":
        return this.#byte(0xc0);
      case "object":
        return this.#object(value, depth);
      default:
        throw new TypeError(FOREIGN);
    }
  }

  #object(value: object | null, depth: number): void {
    if (value === null) return this.#byte(0xc0);
    if (value instanceof Uint8Array) {
      this.#sized(value.length, [0xc4, 0xc5, 0xc6]);
      return this.#raw(value);
    }
    if (Array.isArray(value)) {
      this.#counted(value.length, 0x90, 0xdc);
      for (const item of value) this.value(item, depth + 1);
      return;
    }
    const own = (value as { toJSON?: () => unknown }).toJSON;
    if (typeof own === "function") return this.value(own.call(value), depth + 1);
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    this.#counted(fields.length, 0x80, 0xde);
    for (const [name, field] of fields) {
      this.#text(name);
      this.value(field, depth + 1);
    }
  }

  #number(value: number): void {
    // JSON has no NaN and no infinities: they are null there, so here too.
    if (!Number.isFinite(value)) return this.#byte(0xc0);
    if (!Number.isInteger(value) || Object.is(value, -0) || Math.abs(value) >= 2 ** 63) {
      this.#byte(0xcb);
      return this.#put(8, (view, at) => view.setFloat64(at, value));
    }
    if (value >= -32 && value < 128) return this.#byte(value & 0xff);
    const isNegative = value < 0;
    // Of a negative number one bit is the sign.
    const magnitude = isNegative ? -1 - value : value;
    for (const power of [0, 1, 2]) {
      const size = (2 ** power) as 1 | 2 | 4;
      if (magnitude < 2 ** (8 * size - Number(isNegative))) return this.#wide((isNegative ? 0xd0 : 0xcc) + power, size, value);
    }
    this.#big(BigInt(value));
  }

  #big(value: bigint): void {
    if (value >= 2n ** 64n || value < -(2n ** 63n)) throw new TypeError(FOREIGN);
    this.#byte(value < 0n ? 0xd3 : 0xcf);
    this.#put(8, (view, at) => view.setBigUint64(at, BigInt.asUintN(64, value)));
  }

  #text(text: string): void {
    const bytes = utf8(text);
    if (bytes.length < 32) this.#byte(0xa0 | bytes.length);
    else this.#sized(bytes.length, [0xd9, 0xda, 0xdb]);
    this.#raw(bytes);
  }

  #sized(size: number, [small, middle, large]: [number, number, number]): void {
    if (size < 2 ** 8) this.#wide(small, 1, size);
    else if (size < 2 ** 16) this.#wide(middle, 2, size);
    else this.#wide(large, 4, size);
  }

  #counted(count: number, short: number, long: number): void {
    if (count < 16) this.#byte(short | count);
    else if (count < 2 ** 16) this.#wide(long, 2, count);
    else this.#wide(long + 1, 4, count);
  }

  #byte(byte: number): void {
    this.#put(1, (view, at) => view.setUint8(at, byte));
  }

  /** A marker, and a number of `size` bytes, in two's complement where it is negative. */
  #wide(marker: number, size: 1 | 2 | 4, value: number): void {
    this.#byte(marker);
    this.#put(size, (view, at) => {
      if (size === 1) view.setUint8(at, value);
      else if (size === 2) view.setUint16(at, value);
      else view.setUint32(at, value);
    });
  }

  #raw(bytes: Uint8Array): void {
    const at = this.length;
    this.#put(bytes.length, () => this.bytes.set(bytes, at));
  }

  #put(size: number, write: (view: DataView, at: number) => void): void {
    const end = this.length + size;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    write(this.#view, this.length);
    this.length = end;
  }
}

class Reader {
  at = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  value(depth: number): unknown {
    if (depth > DEEPEST) throw new TypeError(FOREIGN);
    const marker = this.#uint(1);
    if (marker < 0x80) return marker;
    if (marker < 0x90) return this.#map(marker & 0xf, depth);
    if (marker < 0xa0) return this.#array(marker & 0xf, depth);
    if (marker < 0xc0) return this.#text(marker & 0x1f);
    if (marker >= 0xe0) return marker - 0x100;
    switch (marker) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return marker === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#slice(this.#uint(2 ** (marker - 0xc4))).slice();
      case 0xca:
        return this.#view.getFloat32(this.#skip(4));
      case 0xcb:
        return this.#view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#uint(2 ** (marker - 0xcc));
      case 0xcf:
        return Number(this.#view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return Number(this.#view.getBigInt64(this.#skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#uint(2 ** (marker - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#uint(2 ** (marker - 0xdb)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#uint(2 ** (marker - 0xdd)), depth);
      default:
        throw new TypeError(FOREIGN);
    }
  }

  #map(count: number, depth: number): object {
    const map: Record<string, unknown> = {};
    for (let n = 0; n < count; n++) {
      const name = this.value(depth);
      if (typeof name !== "string") throw new TypeError(FOREIGN);
      const value = this.value(depth + 1);
      // As JSON.parse does: `__proto__` is a field like any other.
      if (name !== "__proto__") map[name] = value;
      else Object.defineProperty(map, name, { value, enumerable: true, writable: true, configurable: true });
    }
    return map;
  }

  #array(count: number, depth: number): unknown[] {
    const array = [];
    for (let n = 0; n < count; n++) array.push(this.value(depth + 1));
    return array;
  }

  #text(length: number): string {
    return textOf(this.#slice(length));
  }

  #uint(size: number): number {
    const at = this.#skip(size);
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #slice(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #skip(size: number): number {
    const at = this.at;
    this.at += size;
    if (this.at > this.#bytes.length) throw new RangeError(FOREIGN);
    return at;
  }
}

// Made when they are first used: some test environments have none.
let encoder: TextEncoder | undefined;
let decoder: TextDecoder | undefined;

function utf8(text: string): Uint8Array {
  return (encoder ??= new TextEncoder()).encode(text);
}

function textOf(bytes: Uint8Array): string {
  return (decoder ??= new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })).decode(bytes);
}

/** The server's own bound. */
const DEEPEST = 64;
const FOREIGN = "not MessagePack";
