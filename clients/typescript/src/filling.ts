// What a subscription remembers while it fills a gap from the history.

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
