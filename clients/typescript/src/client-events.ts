// Client events on their way to the server: as many a second as the channel takes, and the latest of each type rather
// than an older one. Nobody waits for them, and nobody is told where one is left out.

import type { Environment } from "./environment.js";

/** The client events that this client sends to one channel. */
export class EventSender {
  readonly #environment: Environment;
  readonly #send: (type: string, data: unknown) => void;
  /** How many a second the channel takes, by type. */
  rates: Readonly<Record<string, number>> = {};
  /** The types that were sent a moment ago, with what waits for the moment to pass. */
  readonly #held = new Map<string, { next?: { data: unknown }; cancel: () => void }>();

  constructor(environment: Environment, send: (type: string, data: unknown) => void) {
    this.#environment = environment;
    this.#send = send;
  }

  /** Sends now or, where one of this type was sent a moment ago, when that has passed. */
  send(type: string, data: unknown): void {
    const held = this.#held.get(type);
    if (held) return void (held.next = { data });
    const cancel = this.#environment.after(Math.min(1000 / (this.rates[type] ?? 1), 1000) || 1000, () => {
      const next = this.#held.get(type)?.next;
      this.#held.delete(type);
      if (next) this.send(type, next.data);
    });
    this.#held.set(type, { cancel });
    this.#send(type, data);
  }

  /** The subscription has ended, or its connection: what waits is of no use any more. */
  clear(): void {
    for (const { cancel } of this.#held.values()) cancel();
    this.#held.clear();
  }
}
