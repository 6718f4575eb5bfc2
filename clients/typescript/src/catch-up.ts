// Closes a gap in place: it loads the history from the position on, holds the live messages meanwhile, and
// joins both by offset. A gap that the history cannot close is reported. The subscription extends it.

import type { Gap } from "./channel.js";
import type { ServerError } from "./error.js";
import { on } from "./listeners.js";
import { type HistoryAnswer, distance, isOffset } from "./position.js";
import { type Position, type RecoveryReason, type ServerMessage, typeOf } from "./protocol.js";
import { SubscriptionRequests } from "./subscription-requests.js";

/** The epoch in a gap of a channel without history. */
const UNKNOWN_EPOCH = "AAAAAAAAAAA";

/** How many messages are held during the history requests. */
const MAX_HELD = 10_000;

/** The position before the messages that the server dropped, as a `gap` message names it. */
interface DroppedMessages extends Position {
  readonly missed: number;
}

/** Delivers the live messages of one channel, and loads those that are missing between them. */
export abstract class CatchUp extends SubscriptionRequests {
  /** The live messages that wait for the history, while it is loaded. */
  protected held: ServerMessage[] | undefined;
  /** The offset of the last message that arrived. Within one epoch, the next one is higher. */
  protected arrived = 0;
  /**
   * The first held message whose offset is not above the previous one. It and all later ones may have another
   * epoch.
   */
  #wentBack: ServerMessage | undefined;
  /** The position of the last message that was delivered, if the channel numbers its messages. */
  position: Position | undefined;
  /**
   * Whether a new session has begun, and it is unknown if the server remembers earlier publications. It
   * survives a lost connection.
   */
  isUnjudged = false;
  /**
   * Increases with each connection and each change of the subscription. Answers of an earlier generation are
   * ignored.
   */
  protected generation = 0;

  /**
   * Forgets the keys of earlier publications if the server may have forgotten them, so that they are not sent
   * again.
   */
  protected forgetKeys(isSameStream: boolean, mayHaveChanged = false): void {
    if (!isSameStream && (mayHaveChanged || this.isUnjudged)) this.host.outbox.forget((other) => other !== this.name);
    this.isUnjudged = false;
  }

  /** Loads everything after the position from the history, before anything else is delivered. */
  protected async catchUp(): Promise<void> {
    const held: ServerMessage[] = (this.held = []);
    this.#wentBack = undefined;
    try {
      for (let since = this.position; since; since = this.position) {
        const message = { type: "history", channel: this.name, since };
        const page = await this.host.reads.retry(async () => held === this.held && this.host.outbox.sendNow({ message }));
        if (held !== this.held) return;
        const { epoch, offset: end, messages } = page as HistoryAnswer;
        if (!(end >= since.offset)) return this.finishCatchUp("epoch_changed");
        // The stream has the same numbering, under any epoch.
        this.#wentBack = undefined;
        this.position = { ...since, epoch };
        this.forgetKeys(epoch === since.epoch, true);
        for (const message of messages) {
          this.#deliver(message);
          if (held !== this.held) return;
        }
        const { offset } = this.position as Position;
        if (offset >= end) break;
        if (offset > since.offset) continue;
        this.position = since;
        return this.finishCatchUp(epoch === since.epoch ? "too_old" : "epoch_changed");
      }
      this.finishCatchUp();
    } catch (error) {
      if (held !== this.held) return;
      this.host.logger.warn("a gap was not closed", { channel: this.name, error });
      this.finishCatchUp(((error as Partial<ServerError>).details?.["reason"] as RecoveryReason | undefined) ?? "not_recoverable");
    }
  }

  /**
   * Delivers the messages that are held. With a `reason`, the history could not close the gap. If the epoch
   * has changed, offsets have no meaning: all messages are delivered until the server names a position.
   */
  protected finishCatchUp(reason?: Gap["reason"]): void {
    const wentBack = this.#wentBack;
    const generation = this.generation;
    const waiting = this.held as ServerMessage[];
    this.held = undefined;
    const isLost = reason && (wentBack || reason === "epoch_changed");
    if (isLost) this.forgetKeys(false, true);
    if (reason) {
      const before = this.position;
      // The history may have contained some of them.
      const next = before && waiting.find(({ offset }) => isOffset(offset) && offset > before.offset);
      const to = next && !isLost ? { ...before, offset: (next["offset"] as number) - 1 } : undefined;
      this.position = to ?? before;
      this.reportGap(reason, before, to);
    }
    // If another gap is among them, the rest is held again.
    for (const message of waiting) {
      if (generation !== this.generation) return;
      if (message === wentBack) {
        if (this.held) this.#wentBack = message;
        else this.position = undefined;
      }
      this.#handle(message);
    }
    if (isLost && generation === this.generation && !this.held) this.position = undefined;
  }

  /** Delivers or holds a live message, or handles a gap that the server reports. */
  receive(message: ServerMessage): void {
    const { offset } = message;
    if (!typeOf(message) && this.position && isOffset(offset)) {
      // The stream may have changed its epoch without notice, which the history reveals.
      if (offset <= this.arrived) {
        if (!this.held) void this.catchUp();
        this.#wentBack ??= message;
      }
      this.arrived = offset;
    }
    this.#handle(message);
  }

  /** Reports that messages may be missing between two positions. */
  protected reportGap(reason: Gap["reason"], from: Position | undefined, to: Position | undefined, missed?: number): void {
    const gap: Gap = { channel: this.name, reason, from, to, missed: missed ?? distance(from, to) };
    this.listeners.emit("gap", gap);
    this.host.gap(gap);
  }

  #handle(message: ServerMessage): void {
    if (this.held) {
      if (this.held.push(message) >= MAX_HELD) this.finishCatchUp("too_many");
      return;
    }
    if (!typeOf(message)) return this.#deliver(message);
    const { epoch, offset, missed } = message as unknown as DroppedMessages;
    if (epoch == null) return;
    if (!this.position && epoch === UNKNOWN_EPOCH) return this.reportGap("not_recoverable", undefined, undefined, missed);
    // Loading starts at the client's position, never further on. The history reports if the epoch has
    // changed.
    this.position ??= { epoch, offset };
    void this.catchUp();
  }

  #deliver(message: ServerMessage): void {
    const { offset } = message;
    if (isOffset(offset) && this.position) {
      if (offset <= this.position.offset) return;
      this.position = { epoch: this.position.epoch, offset };
    }
    this.listeners.emit(on(message.type), message);
  }
}
