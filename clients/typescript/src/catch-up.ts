// The state of a subscription while it loads missed messages from the history, and the functions that read
// positions.

import type { HistoryPage } from "./channel.js";
import type { Position, ServerMessage } from "./protocol.js";

/** The position before the messages that the server dropped, as a `gap` message names it. */
export interface DroppedMessages extends Position {
  readonly missed: number;
}

/** The messages that arrive during the history requests. */
export interface HeldMessages {
  readonly kept: ServerMessage[];
  /**
   * The first message whose offset is not above the previous one. It and all later ones may have another
   * epoch.
   */
  wentBack?: ServerMessage | undefined;
}

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

/** Returns the options that are not undefined. */
export function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
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

/** The epoch in a gap of a channel without history. */
export const UNKNOWN_EPOCH = "AAAAAAAAAAA";

/** How many messages are held during the history requests. */
export const MAX_HELD = 10_000;

/** Milliseconds to wait for the token of a channel. */
export const TOKEN_TIMEOUT = 60_000;
