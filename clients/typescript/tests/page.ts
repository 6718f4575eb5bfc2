// What the tests of the bindings share: a page that is empty again after each test, no rejection that nobody handles, and
// a contract.

import { afterEach, beforeEach, expect, vi } from "vitest";
import { fakeTimers } from "./chat.js";

/** A contract with a channel of each kind of content. */
export interface Chatter {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  channels: { "room:{id}": { message: { text: string }; closing: { minutes: number } } };
  clientEvents: { "room:{id}": { cursor: { x: number }; typing: boolean } };
}

/** Fakes the timers of each test. `end` takes the page down after it; then nothing may have been rejected unseen. */
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
