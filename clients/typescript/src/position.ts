// The functions that read positions from what the server sends.

import type { HistoryPage } from "./channel.js";
import type { Position, ServerMessage } from "./protocol.js";

/** The server's answer to `history`. */
export interface HistoryAnswer extends Position {
  readonly oldest: number;
  readonly messages: readonly ServerMessage[];
}

/** Converts the answer to `history` to the page that applications receive. */
export function pageOf(answer: unknown): HistoryPage<unknown> {
  const { messages, epoch, offset, oldest } = answer as HistoryAnswer;
  const end = messages.at(-1) as { readonly offset: number } | undefined;
  return { messages: messages as never, position: { epoch, offset }, oldest, last: end && { epoch, offset: end.offset } };
}

/** Whether the value is an offset. */
export function isOffset(offset: unknown): offset is number {
  return Number.isSafeInteger(offset);
}

/** Returns the position in an object of the server, if it has one. */
export function positionOf(value: unknown): Position | undefined {
  const { epoch, offset } = (value ?? {}) as Partial<Position>;
  return epoch == null || !isOffset(offset) ? undefined : { epoch, offset };
}

/** Returns how many messages lie between two positions of the same epoch. */
export function distance(from: Position | undefined, to: Position | undefined): number | undefined {
  return from && to && from.epoch === to.epoch ? to.offset - from.offset : undefined;
}
