// The WebSocket for Node 20: its frames byte by byte, and its handshake and close with a server of a few
// lines.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, type Server, type Socket, createServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type Frame, FrameError, FrameReader, OPCODE, writeFrame } from "../src/node-frames.js";
import { NodeWebSocket } from "../src/node-socket.js";

/** Returns an unmasked frame, as a server sends it. */
function frame(first: number, payload: Buffer): Buffer {
  const { length } = payload;
  if (length < 126) return Buffer.concat([Buffer.from([first, length]), payload]);
  const head = length < 2 ** 16 ? Buffer.alloc(4) : Buffer.alloc(10);
  head[0] = first;
  head[1] = length < 2 ** 16 ? 126 : 127;
  if (length < 2 ** 16) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}

function read(bytes: Buffer, cuts: number[] = []): Frame[] {
  const reader = new FrameReader(1 << 20);
  const edges = [0, ...cuts, bytes.length];
  return edges.slice(1).flatMap((end, n) => [...reader.read(bytes.subarray(edges[n], end))]);
}

const text = (words: string) => frame(0x81, Buffer.from(words));

describe("frames", () => {
  test("reads messages with every width of the length field", () => {
    for (const size of [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]) {
      const payload = Buffer.alloc(size, "x");
      expect(read(frame(0x82, payload))).toEqual([{ opcode: OPCODE.binary, payload }]);
    }
  });

  test("reads the same messages wherever the bytes are split", () => {
    const fragments = [frame(0x01, Buffer.from("ab")), frame(0x89, Buffer.from("p")), frame(0x00, Buffer.alloc(0)), frame(0x80, Buffer.from("cd"))];
    const whole = Buffer.concat([text("hello"), ...fragments, frame(0x82, Buffer.alloc(130, 7)), text("")]);
    const expected = ["hello", "p", "abcd", "\x07".repeat(130), ""];
    const words = (frames: Frame[]) => frames.map(({ payload }) => payload.toString("latin1"));
    expect(words(read(whole))).toEqual(expected);
    for (let cut = 1; cut < whole.length; cut++) expect(words(read(whole, [cut]))).toEqual(expected);
    const every = Array.from({ length: whole.length - 1 }, (_, n) => n + 1);
    expect(words(read(whole, every))).toEqual(expected);
  });

  test.each([
    ["reserved bits", Buffer.from([0xc1, 0]), 1002],
    ["a masked frame", Buffer.from([0x81, 0x80, 1, 2, 3, 4]), 1002],
    ["an unknown opcode", Buffer.from([0x83, 0]), 1002],
    ["an unknown control opcode", Buffer.from([0x8b, 0]), 1002],
    ["a fragmented control frame", Buffer.from([0x09, 0]), 1002],
    ["a long control frame", frame(0x89, Buffer.alloc(126)), 1002],
    ["a continuation frame without a message", frame(0x80, Buffer.from("x")), 1002],
    ["a new message inside of a fragmented one", Buffer.concat([frame(0x01, Buffer.from("a")), text("b")]), 1002],
    ["a frame header that announces a too long message", Buffer.from([0x82, 127, 0, 0, 0, 0, 0x7f, 0, 0, 0]), 1009],
    ["a fragmented message that is too long", Buffer.concat([frame(0x02, Buffer.alloc(1 << 20)), frame(0x80, Buffer.alloc(1))]), 1009],
  ])("%s is an error", (_, bytes, code) => {
    const failure = (() => {
      try {
        read(bytes);
      } catch (error) {
        return error;
      }
      return undefined;
    })();
    expect(failure).toBeInstanceOf(FrameError);
    expect(failure).toMatchObject({ code });
  });

  test("written frames are masked and can be read back", () => {
    for (const size of [0, 5, 125, 126, 65_535, 65_536]) {
      const payload = Buffer.alloc(size, "é");
      const written = writeFrame(OPCODE.text, payload);
      const start = written.length - size;
      expect((written[1] as number) & 0x80).toBe(0x80);
      const mask = written.subarray(start - 4, start);
      const plain = written.subarray(start).map((byte, n) => byte ^ (mask[n & 3] as number));
      expect(Buffer.compare(plain, payload)).toBe(0);
    }
  });
});

describe("over TCP", () => {
  let server: Server | undefined;

  afterEach(() => server?.close());

  /** Starts a server that answers the handshake with `answer` and then calls `then`. */
  async function serve(then: (socket: Socket, head: string) => void, answer = accept): Promise<string> {
    server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes) => {
        const head = bytes.toString();
        socket.write(answer(head));
        then(socket, head);
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/live?a=1`;
  }

  function accept(head: string): string {
    const key = /sec-websocket-key: (.*)\r/i.exec(head)?.[1] ?? "";
    const proof = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    const lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
    return [...lines, `Sec-WebSocket-Accept: ${proof}`, "Sec-WebSocket-Protocol: hauyna.v1.json", "", ""].join("\r\n");
  }

  const closed = (socket: NodeWebSocket) =>
    new Promise<{ code: number; reason: string }>((resolve) => (socket.onclose = resolve as never));

  test("the handshake is complete, and messages pass both ways, including one in the packet of the answer", async () => {
    let request = "";
    const url = await serve((socket, head) => {
      request = head;
      socket.write(Buffer.concat([text("¡hola!"), frame(0x89, Buffer.from("?"))]));
      socket.on("data", (bytes) => bytes[0] === 0x8a && socket.write(frame(0x82, Buffer.from([1, 2]))));
    });
    const socket = new NodeWebSocket(url, ["hauyna.v1.json", "hauyna.bearer.abc"]);
    const heard: unknown[] = [];
    await new Promise<void>((done) => {
      socket.onmessage = (({ data }: { data: unknown }) => heard.push(data) === 2 && done()) as never;
    });
    expect(heard).toEqual(["¡hola!", new Uint8Array([1, 2]).buffer]);
    expect(request).toContain("GET /live?a=1 HTTP/1.1");
    expect(request).toMatch(/Sec-WebSocket-Protocol: hauyna.v1.json, hauyna.bearer.abc\r/);
    expect(request).toMatch(/Sec-WebSocket-Version: 13\r/);
    socket.close();
  });

  test("the code and the reason of the server's close arrive", async () => {
    const url = await serve((socket) => {
      socket.write(frame(0x88, Buffer.concat([Buffer.from([0x0b, 0xb9]), Buffer.from("drain")])));
      socket.once("data", () => socket.end());
    });
    expect(await closed(new NodeWebSocket(url, ["hauyna.v1.json"]))).toEqual({ code: 3001, reason: "drain" });
  });

  test("a sub-protocol that is not an HTTP token is refused, as in a browser", () => {
    const wrong = () => new NodeWebSocket("ws://127.0.0.1:1/", ["hauyna.v1.json", "hauyna.bearer.a, hauyna.resume.b"]);
    expect(wrong).toThrow(SyntaxError);
  });

  test("a connection that ends without a close frame has the code 1006", async () => {
    const url = await serve((socket) => socket.destroy());
    expect((await closed(new NodeWebSocket(url, ["hauyna.v1.json"]))).code).toBe(1006);
  });

  test("a close by the client sends its code, and ends even if the server does not answer", async () => {
    let said = Buffer.alloc(0);
    const url = await serve((socket) => socket.on("data", (bytes) => (said = Buffer.concat([said, bytes]))));
    const socket = new NodeWebSocket(url, ["hauyna.v1.json"]);
    await new Promise<void>((open) => (socket.onopen = () => open()));
    socket.close(4000, "bye");
    await closed(socket);
    const plain = said.subarray(6).map((byte, n) => byte ^ (said[2 + (n & 3)] as number));
    expect(said[0]).toBe(0x88);
    expect(Buffer.from(plain)).toEqual(Buffer.concat([Buffer.from([0x0f, 0xa0]), Buffer.from("bye")]));
  });

  test.each([0, 999, 1001, 1005, 2999, 5000, 70_000, 3000.5, -1, NaN, Infinity])("a close by the client with %s is refused, as in a browser, and another may follow", async (code) => {
    const url = await serve((socket) => socket.once("data", () => socket.end()));
    const socket = new NodeWebSocket(url, ["hauyna.v1.json"]);
    await new Promise<void>((open) => (socket.onopen = () => open()));
    expect(() => socket.close(code)).toThrow(RangeError);
    socket.close();
    expect((await closed(socket)).code).toBe(1006);
  });

  test.each([
    [3001, 3001],
    [1012, 1012],
    [1005, 1000],
    [1006, 1002],
    [1015, 1002],
    [999, 1002],
    [0, 1002],
  ])("a close by the server with %s is answered with %s, and later frames are ignored", async (code, answer) => {
    let said = Buffer.alloc(0);
    const url = await serve((socket) => {
      socket.on("data", (more) => (said = Buffer.concat([said, more]))).once("data", () => socket.end());
      const payload = Buffer.alloc(2);
      payload.writeUInt16BE(code);
      socket.write(Buffer.concat([frame(0x88, payload), text("late")]));
    });
    const socket = new NodeWebSocket(url, ["hauyna.v1.json"]);
    const heard: unknown[] = [];
    socket.onmessage = (({ data }: { data: unknown }) => heard.push(data)) as never;
    expect((await closed(socket)).code).toBe(code);
    expect(Buffer.from([6, 7].map((at, n) => (said[at] as number) ^ (said[2 + n] as number))).readUInt16BE()).toBe(answer);
    expect(heard).toEqual([]);
  });

  test.each([
    ["a refusal", () => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", "the server answered 403", { status: 403 }],
    ["another key", (head: string) => accept(head).replace(/Accept: .*\r/, "Accept: bm8=\r"), "the handshake is not one of a WebSocket"],
    ["another protocol", (head: string) => accept(head).replace("hauyna.v1.json", "chat"), "the handshake is not one of a WebSocket"],
  ])("%s closes the socket with a reason", async (_, answer, reason, more?: { status: number }) => {
    const socket = new NodeWebSocket(await serve(() => {}, answer), ["hauyna.v1.json"]);
    expect(await closed(socket)).toEqual({ code: 1006, reason, ...more });
  });

  test("an unreachable server closes the socket with a reason, and a close before the open event ends it", async () => {
    const refused = await closed(new NodeWebSocket("ws://127.0.0.1:1/", []));
    expect(refused).toMatchObject({ code: 1006, reason: expect.stringContaining("ECONNREFUSED") });
    const early = new NodeWebSocket(await serve(() => {}), ["hauyna.v1.json"]);
    const end = closed(early);
    early.close(4000);
    expect((await end).code).toBe(1006);
  });

  test.each([
    ["a frame that violates the RFC", Buffer.from([0xc1, 0]), 1002, "reserved bits"],
    ["a text that is not UTF-8", frame(0x81, Buffer.from([0xff, 0xfe])), 1007, "not UTF-8"],
    ["a fragmented text that is not UTF-8", Buffer.concat([frame(0x01, Buffer.from([0xc3])), frame(0x80, Buffer.from("x"))]), 1007, "not UTF-8"],
  ])("%s sends the server its close code, and closes the socket with 1006, as in a browser", async (_, bytes, code, reason) => {
    let said = Buffer.alloc(0);
    let gone = () => {};
    const ended = new Promise<void>((resolve) => (gone = resolve));
    const url = await serve((socket) => {
      socket.on("data", (more) => (said = Buffer.concat([said, more]))).on("close", gone);
      socket.write(bytes);
    });
    const socket = new NodeWebSocket(url, ["hauyna.v1.json"]);
    socket.onmessage = () => {};
    const end = closed(socket);
    await ended;
    expect(await end).toEqual({ code: 1006, reason });
    expect(Buffer.from([6, 7].map((at, n) => (said[at] as number) ^ (said[2 + n] as number))).readUInt16BE()).toBe(code);
  });
});
