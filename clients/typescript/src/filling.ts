// What a subscription remembers while it fills a gap from the history, and how positions are read.

import type { HistoryPage } from "./channel.js";
import type { Position, ServerMessage } from "./protocol.js";

/** The position before what a gap of the server's leaves out. */
export interface Dropped extends Position {
  readonly missed: number;
}

/** What came while the history is asked. */
export interface Filling {
  readonly kept: ServerMessage[];
  /** The one from which on offsets may be of another epoch. */
  wentBack?: ServerMessage | undefined;
}

/** What `history` answers. */
export interface HistoryAnswer extends Position {
  readonly oldest: number;
  readonly messages: readonly ServerMessage[];
}

/** A page of the history, as applications get it. */
export function pageOf(answer: unknown): HistoryPage<unknown> {
  const { messages, epoch, offset, oldest } = answer as HistoryAnswer;
  const end = messages.at(-1) as { readonly offset: number } | undefined;
  return { messages: messages as never, position: { epoch, offset }, oldest, last: end && { epoch, offset: end.offset } };
}

/** What of these is given. */
export function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** Whether it is an offset. */
export function isNumber(offset: unknown): offset is number {
  return Number.isSafeInteger(offset);
}

/** The position in what the server said, if there is one. */
export function positionOf(said: unknown): Position | undefined {
  const { epoch, offset } = (said ?? {}) as Partial<Position>;
  return epoch == null || !isNumber(offset) ? undefined : { epoch, offset };
}

/** How many messages lie between two positions, where they are of one numbering. */
export function distance(from: Position | undefined, to: Position | undefined): number | undefined {
  return from && to && from.epoch === to.epoch ? to.offset - from.offset : undefined;
}

/** The epoch of a gap in a channel without history. */
export const UNKNOWN = "AAAAAAAAAAA";

/** Messages that are kept while the history is asked. */
export const KEPT = 10_000;

/** Milliseconds for a token of a channel. */
export const TOKEN = 60_000;
