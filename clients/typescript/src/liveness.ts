// Whether the server is still there: asks after a silence, gives up after a longer one, and asks at once when the
// machine has slept. One timer, which no message touches.

import type { Environment } from "./environment.js";
import type { Heartbeat } from "./protocol.js";

/** What follows from a silence. */
export interface LivenessEvents {
  ping(): void;
  /** Nothing was heard for too long. */
  lost(reason: string): void;
}

/** Watches over one connection at a time. */
export class Liveness {
  readonly #environment: Environment;
  readonly #events: LivenessEvents;
  #heartbeat = heartbeat;
  #heard = 0;
  /** Nothing was heard since it asked. No moment: clocks are coarse. */
  #hasAsked = false;
  /** When an answer must have come, after something that may have ended the connection unseen. */
  #patience = Infinity;
  #expected = 0;
  #cancel = () => {};

  constructor(environment: Environment, events: LivenessEvents) {
    this.#environment = environment;
    this.#events = events;
  }

  start(terms: Heartbeat | null | undefined): void {
    this.#heartbeat = terms ?? heartbeat;
    this.heard();
    this.#next();
  }

  stop(): void {
    this.#cancel();
  }

  heard(): void {
    this.#heard = this.#environment.now();
    this.#hasAsked = false;
    this.#patience = Infinity;
  }

  /** Asks now, with little patience. */
  check(): void {
    const now = this.#environment.now();
    if (this.#patience <= now + PONG_TIMEOUT) return;
    this.#patience = now + PONG_TIMEOUT;
    this.#ping();
    this.#next();
  }

  #tick(): void {
    const now = this.#environment.now();
    const silence = now - this.#heard;
    if (now >= this.#patience) return this.#lost("no answer after a wake-up");
    // The clock has jumped, and says nothing of the silence.
    if (Math.abs(now - this.#expected) > DRIFT) return this.check();
    if (this.#patience === Infinity) {
      if (silence >= this.#heartbeat.timeout) return this.#lost("silence");
      if (silence >= this.#heartbeat.interval && !this.#hasAsked) this.#ping();
    }
    this.#next();
  }

  #ping(): void {
    this.#hasAsked = true;
    this.#events.ping();
  }

  #lost(reason: string): void {
    this.stop();
    this.#events.lost(reason);
  }

  #next(): void {
    this.#cancel();
    const now = this.#environment.now();
    const { interval, timeout } = this.#heartbeat;
    // Terms that are none are never due.
    const silent = this.#heard + (this.#hasAsked ? timeout : interval) || Infinity;
    // After a jump of the clock only the answer counts.
    const due = this.#patience < Infinity ? this.#patience : silent;
    const at = Math.min(Math.max(now + 1, due), now + TICK);
    this.#expected = at;
    this.#cancel = this.#environment.after(at - now, () => this.#tick());
  }
}

/** Until the server says, and where it does not. */
const heartbeat: Heartbeat = { interval: 25_000, timeout: 60_000 };
/** Milliseconds: how often to look whether the clock has jumped, and by how much it jumps when a machine sleeps. */
const TICK = 10_000;
const DRIFT = 5_000;
/** Milliseconds for the answer after a wake-up. */
const PONG_TIMEOUT = 5_000;
