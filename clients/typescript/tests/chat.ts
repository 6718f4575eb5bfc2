// A server of one room for the tests of the bindings. It answers the client's requests when the test says so.

import { vi } from "vitest";
import type { Client, ClientOptions } from "../src/index.js";
import type { ServerMessage } from "../src/protocol.js";
import { type Peer, World } from "./world.js";

interface Kept {
  readonly [field: string]: unknown;
  readonly offset: number;
}

/** The server of the channel `room` and of all others, each with the same history. */
export class Chat {
  readonly world = new World();
  readonly client: Client;
  epoch = "E";
  kept: Kept[] = [];
  /** Whether the channels have a history. */
  isRecoverable = true;
  /** Whether this request is answered now. The others stay pending. */
  answers: (message: ServerMessage) => boolean = () => true;
  #answered = new WeakSet<ServerMessage>();

  constructor(options: ClientOptions = {}) {
    this.client = this.world.client(options);
  }

  /** Returns a server whose client is connected. */
  static async connected(count = 0): Promise<Chat> {
    const chat = new Chat();
    for (let n = 1; n <= count; n++) chat.keep(`#${n}`);
    chat.client.connect().catch(() => {});
    await chat.turn();
    return chat;
  }

  get socket(): Peer {
    return this.world.socket;
  }

  get end(): { epoch: string; offset: number } {
    return { epoch: this.epoch, offset: this.kept.at(-1)?.offset ?? 0 };
  }

  /** Publishes without notifying this client. */
  keep(content: unknown, user = "bob"): Kept {
    const message = { type: "message", channel: "room", user, content, timestamp: 1, offset: this.end.offset + 1 };
    this.kept.push(message);
    return message;
  }

  /** Publishes a message of another user. */
  async say(content: unknown, user = "bob"): Promise<void> {
    await this.socket.say(this.isRecoverable ? this.keep(content, user) : { type: "message", channel: "room", user, content, timestamp: 1 });
  }

  /** Runs everything that is due now: promises of the client, answers of the server, and the next frame. */
  async turn(): Promise<void> {
    for (let n = 0; n < 4; n++) {
      await vi.advanceTimersByTimeAsync(20);
      await this.world.pass(20);
      const socket = this.world.sockets.at(-1);
      if (!socket) continue;
      if (socket.onopen && !this.#answered.has(socket as never)) {
        this.#answered.add(socket as never);
        await socket.accept();
      }
      for (const message of [...socket.heard]) {
        if (this.#answered.has(message) || !this.answers(message)) continue;
        this.#answered.add(message);
        await this.#answer(socket, message);
      }
    }
  }

  /** Drops the connection; `meanwhile` runs before the next one. */
  async lose(meanwhile: () => void = () => {}): Promise<void> {
    await this.socket.drop();
    meanwhile();
    await this.world.attempt();
    await this.turn();
  }

  async #answer(socket: Peer, { type, id, ...fields }: ServerMessage): Promise<void> {
    const channel = fields["channel"];
    if (type === "subscribe_channel") await this.#subscribe(socket, id, fields);
    else if (type === "history") await socket.say({ type: "ack", id, data: this.#page(fields) });
    else if (type === "channel_message") {
      if (this.isRecoverable) this.keep(fields["content"], "ana");
      await socket.say({ type: "ack", id, data: this.isRecoverable ? this.end : {} });
    } else if (type !== "client_event") await socket.say({ type: "ack", id, data: { channel } });
  }

  async #subscribe(socket: Peer, id: unknown, { channel, recover }: Record<string, unknown>): Promise<void> {
    const from = recover as { epoch: string; offset: number } | undefined;
    const recovered = from?.epoch === this.epoch;
    const reason = from && !recovered ? { reason: "epoch_changed" } : {};
    const standing = this.isRecoverable ? { ...this.end, ...(from && { recovered, ...reason }) } : {};
    await socket.say({ type: "ack", id, data: { channel, recoverable: this.isRecoverable, ...standing } });
    if (recovered) await socket.say(...this.kept.filter(({ offset }) => offset > from.offset));
  }

  #page({ limit, before }: Record<string, unknown>): object {
    const end = (before as { offset: number } | undefined)?.offset ?? Infinity;
    const messages = this.kept.filter(({ offset }) => offset < end).reverse();
    return { messages: messages.slice(0, limit as number), ...this.end, oldest: this.kept[0]?.offset ?? 1 };
  }
}

/** Fakes the timers of the stores, which do not use the world's time. */
export function fakeTimers(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] });
}
