// The set-up of the tests of the bindings: a page that is cleared after each test, a check for unhandled
// rejections, and a contract.

import { afterEach, beforeEach, expect, vi } from "vitest";
import { fakeTimers } from "./chat.js";

/** A contract with a channel of each kind of content. */
export interface Chatter {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  channels: { "room:{id}": { message: { text: string }; closing: { minutes: number } } };
  clientEvents: { "room:{id}": { cursor: { x: number }; typing: boolean } };
}

/** Fakes the timers of each test. `end` clears the page after it, and no rejection may be unhandled then. */
export function eachPage(end: () => unknown): void {
  const rejections: unknown[] = [];
  const note = (reason: unknown) => rejections.push(reason);
  beforeEach(() => {
    fakeTimers();
    process.on("unhandledRejection", note);
  });
  afterEach(async () => {
    await end();
    vi.useRealTimers();
    process.off("unhandledRejection", note);
    document.body.replaceChildren();
    expect(rejections.splice(0)).toEqual([]);
  });
}
