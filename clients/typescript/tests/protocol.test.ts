// Compares the client's tables and codecs with the fixtures of the protocol.

import { describe, expect, test } from "vitest";
import { type ErrorType, ServerError, closeCodes, shouldReconnect, json, msgpack } from "../src/index.js";
import type { ErrorMessage } from "../src/protocol.js";
import { fixture, fromHex } from "./fixtures.js";

interface Row {
  name: string;
  json: object;
  msgpack: string;
}

describe.each(["messages", "requests", "application"])("%s.json", (file) => {
  test.each(fixture<Row>(file))("$name: both encodings decode to the same message", ({ json: value, msgpack: hex }) => {
    expect(msgpack.decode(fromHex(hex))).toEqual(value);
    expect(json.decode(JSON.stringify(value))).toEqual(value);
  });

  test.each(fixture<Row>(file))("$name: an encoded message decodes to itself", ({ json: value }) => {
    const bytes = msgpack.encode(value) as Uint8Array<ArrayBuffer>;
    expect(msgpack.decode(bytes.buffer)).toEqual(value);
    expect(json.decode(json.encode(value) as string)).toEqual(value);
  });
});

test("requests are encoded in MessagePack byte for byte as the server encodes them", () => {
  for (const { name, json: value, msgpack: hex } of fixture<Row>("requests")) {
    const written = Buffer.from(msgpack.encode(value) as Uint8Array).toString("hex");
    expect(written, name).toBe(hex);
  }
});

test("the client has exactly the error types of the protocol", () => {
  const known: Record<ErrorType, boolean> = {
    parse_error: false,
    validation_error: false,
    unknown_event: false,
    unauthorized: false,
    token_expired: true,
    permission_denied: false,
    not_subscribed: false,
    already_subscribed: false,
    unknown_user: false,
    limit_exceeded: false,
    rate_limited: true,
    payload_too_large: false,
    timeout: true,
    unavailable: true,
    application_error: false,
    internal_error: true,
  };
  const rows = fixture<{ error_type: ErrorType; temporary: boolean }>("error_types");
  expect(Object.fromEntries(rows.map((row) => [row.error_type, row.temporary]))).toEqual(known);
});

test("an error message becomes an error with its type, text and delay", () => {
  const message = fixture<{ json: ErrorMessage }>("messages").map((row) => row.json);
  for (const error of message.filter((one) => one.type === "error")) {
    const thrown = new ServerError(error);
    expect(thrown).toMatchObject({ kind: "refused", type: error.error_type, temporary: error.temporary });
    expect(thrown.message).toBe(error.message);
    expect(thrown.retryAfter).toBe(error.details?.["retry_after"]);
  }
});

test("the client reconnects for the close codes that the fixtures name, also by range", () => {
  const rows = fixture<{ code: number; name?: string; reconnect: boolean }>("close_codes");
  for (const { code, reconnect } of rows) expect(shouldReconnect(code), String(code)).toBe(reconnect);
  for (const [name, code] of Object.entries(closeCodes)) {
    expect(rows.map((row) => row.code), name).toContain(code);
  }
});

describe("MessagePack", () => {
  const read = (hex: string) => msgpack.decode(fromHex(hex));
  const written = (value: unknown) => Buffer.from(msgpack.encode(value as object) as Uint8Array).toString("hex");

  test.each([
    [0, "00"],
    [127, "7f"],
    [128, "cc80"],
    [255, "ccff"],
    [256, "cd0100"],
    [65_535, "cdffff"],
    [65_536, "ce00010000"],
    [2 ** 32 - 1, "ceffffffff"],
    [2 ** 32, "cf0000000100000000"],
    [Number.MAX_SAFE_INTEGER, "cf001fffffffffffff"],
    [-1, "ff"],
    [-32, "e0"],
    [-33, "d0df"],
    [-128, "d080"],
    [-129, "d1ff7f"],
    [-32_768, "d18000"],
    [-32_769, "d2ffff7fff"],
    [-(2 ** 31), "d280000000"],
    [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
    [-0, "cb8000000000000000"],
    [1.5, "cb3ff8000000000000"],
    [2 ** 63, "cb43e0000000000000"],
    ["", "a0"],
    [null, "c0"],
    [true, "c3"],
  ])("%s is encoded in its shortest form, and decodes to the same value", (value, hex) => {
    expect(written(value)).toBe(hex);
    expect(read(hex)).toBe(value);
  });

  test("texts, arrays and maps of every width decode to what was encoded", () => {
    for (const size of [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536]) {
      const text = "x".repeat(size);
      const array = Array.from({ length: size }, (_, n) => n);
      const map = Object.fromEntries(array.map((n) => [`k${n}`, n]));
      const value = { text, array, map };
      expect(msgpack.decode((msgpack.encode(value) as Uint8Array<ArrayBuffer>).buffer)).toEqual(value);
    }
  });

  test("bytes stay bytes", () => {
    const bytes = new Uint8Array([0, 1, 254, 255]);
    expect(written({ bytes })).toBe("81a56279746573c4040001feff");
    expect(read("81a56279746573c4040001feff")).toEqual({ bytes });
  });

  test("values that are not fields or numbers are encoded like in JSON", () => {
    expect(written({ a: undefined, b: NaN })).toBe("81a162c0");
    expect(written({ at: new Date(0) })).toBe(written({ at: "1970-01-01T00:00:00.000Z" }));
    expect(() => msgpack.encode({ a: () => 1 })).toThrow(TypeError);
  });

  test("an application's toJSON may itself call the encoder", () => {
    const inner = { toJSON: () => (msgpack.encode({ text: "x".repeat(1000) }) as Uint8Array).length };
    expect(written([1, inner, 2])).toBe(written([1, 1009, 2]));
    const failing = { toJSON: () => msgpack.encode({ a: () => 1 }) };
    expect(() => msgpack.encode([1, failing])).toThrow(TypeError);
    expect(written([1])).toBe("9101");
  });

  test("a short text is never decoded as another one", () => {
    for (let n = 0; n < 5000; n++) {
      const text = `${n % 7}-${n * 7919}`;
      expect(msgpack.decode((msgpack.encode([text, `${text}é`]) as Uint8Array<ArrayBuffer>).buffer)).toEqual([text, `${text}é`]);
    }
  });

  test("integers of 64 bits are encoded exactly", () => {
    expect(written(2n ** 64n - 1n)).toBe("cfffffffffffffffff");
    expect(written(-(2n ** 63n))).toBe("d38000000000000000");
    expect(() => msgpack.encode({ a: 2n ** 64n })).toThrow(TypeError);
  });

  test("a field called __proto__ is a normal field", () => {
    const read = msgpack.decode(fromHex("81a95f5f70726f746f5f5f81a16101")) as object;
    expect(Object.keys(read)).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(read)).toBe(Object.prototype);
  });

  test("every truncated message is an error, wherever it is cut", () => {
    for (const { msgpack: hex } of fixture<Row>("messages")) {
      const whole = new Uint8Array(fromHex(hex));
      for (let end = 0; end < whole.length; end++) {
        expect(() => msgpack.decode(whole.slice(0, end).buffer)).toThrow();
      }
      expect(() => msgpack.decode(fromHex(`${hex}00`))).toThrow(RangeError);
    }
  });

  test("a server message can be decoded however deep the history nests it", () => {
    expect(read(`${"91".repeat(900)}c0`)).toBeInstanceOf(Array);
  });

  test("an endless, falsely sized or too deeply nested message is refused early", () => {
    expect(() => read("dfffffffff")).toThrow(RangeError);
    expect(() => read("ddffffffff")).toThrow(RangeError);
    expect(() => read("91".repeat(100_000))).toThrow(TypeError);
    expect(() => read("c7010000")).toThrow(TypeError);
    const circle: unknown[] = [];
    circle.push(circle);
    expect(() => msgpack.encode(circle)).toThrow(TypeError);
  });
});
