// Sends client events at the rate that the channel allows. While the rate is used up, only the latest event
// of each type waits; the events that it replaces are dropped without a report.

import type { Environment } from "./environment.js";

/** Sends this client's events to one channel. */
export class EventSender {
  readonly #environment: Environment;
  readonly #send: (type: string, data: unknown) => void;
  /** How many events of each type the channel accepts in a second. */
  rates: Readonly<Record<string, number>> = {};
  /** The types whose interval has not passed yet, each with the event that waits for its end. */
  readonly #intervals = new Map<string, { next?: { data: unknown }; cancel: () => void }>();

  constructor(environment: Environment, send: (type: string, data: unknown) => void) {
    this.#environment = environment;
    this.#send = send;
  }

  /** Sends the event now, or at the end of the interval that the previous event of this type began. */
  send(type: string, data: unknown): void {
    const interval = this.#intervals.get(type);
    if (interval) return void (interval.next = { data });
    const cancel = this.#environment.after(Math.min(1000 / (this.rates[type] ?? 1), 1000) || 1000, () => {
      const next = this.#intervals.get(type)?.next;
      this.#intervals.delete(type);
      if (next) this.send(type, next.data);
    });
    this.#intervals.set(type, { cancel });
    this.#send(type, data);
  }

  /** Drops the waiting events, because the subscription or the connection has ended. */
  clear(): void {
    for (const { cancel } of this.#intervals.values()) cancel();
    this.#intervals.clear();
  }
}
