// The real program on a free port, and a connection to it that can be cut, for tests over real sockets.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BUILT = fileURLToPath(new URL("../../../target/debug/hauyna", import.meta.url));

/** The program named by HAUYNA_BIN, or the one that `cargo build --package hauyna-server` has built. */
export const program = process.env["HAUYNA_BIN"] ?? (existsSync(BUILT) ? BUILT : undefined);

/** A running program. */
export interface Running {
  readonly port: number;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export async function startServer(port = 0, words: string[] = []): Promise<Running> {
  if (!program) throw new Error("HAUYNA_BIN must name the program `hauyna`");
  const listen = ["--listen", `127.0.0.1:${port}`, "--metrics", "off", "--log", "warn"];
  const child: ChildProcess = spawn(program, ["serve", ...listen, ...words], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const found = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the program ended with ${code} before it listened`)));
    createInterface(child.stdout as NodeJS.ReadableStream).on("line", (line) => {
      const address = /127\.0\.0\.1:(\d+)/.exec(line);
      if (address) resolve(Number(address[1]));
    });
  });
  return {
    port: found,
    stop: async (signal = "SIGTERM") => {
      child.kill(signal);
      await ended;
    },
  };
}

/** A port that forwards to another, until it is cut. */
export class Wire {
  readonly #server: Server;
  readonly #pairs = new Set<[Socket, Socket]>();
  /** Whether new connections are refused. */
  isDown = false;
  /** Whether data is held back without closing the connections. */
  #isStalled = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(port: number): Promise<Wire> {
    const server = createServer();
    const wire = new Wire(server);
    server.on("connection", (near) => wire.#join(near, port));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return wire;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Ends every connection without a close frame, as a lost network does. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Holds back the data of the current connections in both directions. */
  stall(): void {
    this.#isStalled = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  heal(): void {
    this.#isStalled = false;
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(near: Socket, port: number): void {
    if (this.isDown) {
      near.destroy();
      return;
    }
    const far = connect(port, "127.0.0.1");
    const pair: [Socket, Socket] = [near, far];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    near.pipe(far);
    far.pipe(near);
    if (this.#isStalled) for (const socket of pair) socket.pause();
  }
}
