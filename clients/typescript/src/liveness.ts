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
  #heartbeat = defaultHeartbeat;
  #lastRead = 0;
  /** Whether a ping was sent since the last message. It is not a time, because clocks may be coarse. */
  #hasPinged = false;
  /** When an answer must have arrived, after an event that may have ended the connection unnoticed. */
  #answerBy = Infinity;
  #nextCheck = 0;
  #cancelTimer = () => {};

  constructor(environment: Environment, events: LivenessEvents) {
    this.#environment = environment;
    this.#events = events;
  }

  start(terms: Heartbeat | null | undefined): void {
    this.#heartbeat = terms ?? defaultHeartbeat;
    this.heard();
    this.#scheduleCheck();
  }

  stop(): void {
    this.#cancelTimer();
  }

  heard(): void {
    this.#lastRead = this.#environment.now();
    this.#hasPinged = false;
    this.#answerBy = Infinity;
  }

  /** Pings now, and expects the answer within a short time. */
  check(): void {
    const now = this.#environment.now();
    if (this.#answerBy <= now + PONG_TIMEOUT) return;
    this.#answerBy = now + PONG_TIMEOUT;
    this.#sendPing();
    this.#scheduleCheck();
  }

  #checkSilence(): void {
    const now = this.#environment.now();
    const silence = now - this.#lastRead;
    if (now >= this.#answerBy) return this.#reportLoss("no answer after a wake-up");
    // The clock has jumped, so the time since the last message is unknown.
    if (Math.abs(now - this.#nextCheck) > MIN_CLOCK_JUMP) return this.check();
    if (this.#answerBy === Infinity) {
      if (silence >= this.#heartbeat.timeout) return this.#reportLoss("silence");
      if (silence >= this.#heartbeat.interval && !this.#hasPinged) this.#sendPing();
    }
    this.#scheduleCheck();
  }

  #sendPing(): void {
    this.#hasPinged = true;
    this.#events.ping();
  }

  #reportLoss(reason: string): void {
    this.stop();
    this.#events.lost(reason);
  }

  #scheduleCheck(): void {
    this.#cancelTimer();
    const now = this.#environment.now();
    const { interval, timeout } = this.#heartbeat;
    // With an invalid interval or timeout, the check is never due.
    const silenceEnds = this.#lastRead + (this.#hasPinged ? timeout : interval) || Infinity;
    // After a jump of the clock, only the answer to the ping counts.
    const due = this.#answerBy < Infinity ? this.#answerBy : silenceEnds;
    const checkAt = Math.min(Math.max(now + 1, due), now + CHECK_INTERVAL);
    this.#nextCheck = checkAt;
    this.#cancelTimer = this.#environment.after(checkAt - now, () => this.#checkSilence());
  }
}

/** The heartbeat until the server sends its own, and if it sends none. */
const defaultHeartbeat: Heartbeat = { interval: 25_000, timeout: 60_000 };
/**
 * Milliseconds: the interval of the checks for a jump of the clock, and the smallest jump that counts as a
 * sleep of the machine.
 */
const CHECK_INTERVAL = 10_000;
const MIN_CLOCK_JUMP = 5_000;
/** Milliseconds to wait for an answer after a wake-up. */
const PONG_TIMEOUT = 5_000;
