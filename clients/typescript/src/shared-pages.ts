// What the worker keeps about its pages: the credentials that they gave, and their open requests.

import type { Tab } from "./shared-tab.js";

/**
 * The result of comparing a page's credentials with the connection's user. `unknown`: the page gave none, or
 * the server could not check them.
 */
export type Verdict = "same" | "other" | "unknown";

/** The credentials of an attempt, and the page that gave them. */
export interface Offer {
  token?: string;
  tab?: Tab | undefined;
}

/** A request of a page without an answer. */
export interface Pending {
  readonly tab: Tab;
  /** The page's socket that sent it. */
  readonly socket: number;
  readonly id: unknown;
  readonly bytes: number;
}
