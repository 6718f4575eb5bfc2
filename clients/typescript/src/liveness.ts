// Detects that the server is gone: pings after a silence, reports a longer one as a loss, and pings at once
// after the machine has slept. It uses one timer, which received messages do not reset.

import type { Environment } from "./environment.js";
import type { Heartbeat } from "./protocol.js";

/** The consequences of a silence. */
export interface LivenessEvents {
  ping(): void;
  /** The connection is lost: nothing was received for too long. */
  lost(reason: string): void;
}

/** Watches one connection at a time. */
export class Liveness {
  readonly #environment: Environment;
  readonly #events: LivenessEvents;
  #heartbeat = heartbeat;
  #heard = 0;
  /** Whether a ping was sent since the last message. It is not a time, because clocks may be coarse. */
  #hasAsked = false;
  /** When an answer must have arrived, after an event that may have ended the connection unnoticed. */
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

  /** Pings now, and expects the answer within a short time. */
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
    // The clock has jumped, so the time since the last message is unknown.
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
    // With an invalid interval or timeout, the check is never due.
    const silent = this.#heard + (this.#hasAsked ? timeout : interval) || Infinity;
    // After a jump of the clock, only the answer to the ping counts.
    const due = this.#patience < Infinity ? this.#patience : silent;
    const at = Math.min(Math.max(now + 1, due), now + TICK);
    this.#expected = at;
    this.#cancel = this.#environment.after(at - now, () => this.#tick());
  }
}

/** The heartbeat until the server sends its own, and if it sends none. */
const heartbeat: Heartbeat = { interval: 25_000, timeout: 60_000 };
/**
 * Milliseconds: the interval of the checks for a jump of the clock, and the smallest jump that counts as a
 * sleep of the machine.
 */
const TICK = 10_000;
const DRIFT = 5_000;
/** Milliseconds to wait for an answer after a wake-up. */
const PONG_TIMEOUT = 5_000;
