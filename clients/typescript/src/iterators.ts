// The iterators of a channel: over the publications from now on, and over the history back to its beginning.

import type { Channel, HistoryRange, HistoryMessage, Publication } from "./channel.js";
import { HauynaError } from "./error.js";
import type { Unsubscribe } from "./listeners.js";
import type { Position } from "./protocol.js";
import { type AbortSignalLike, onAbort } from "./runtime-types.js";

type Readable = Pick<Channel, "on" | "onState" | "history">;

/**
 * Iterates over the publications from now on, until the subscription ends, the client is closed, or the
 * signal is aborted.
 */
export function messages(
  channel: Readable,
  signal?: AbortSignalLike,
  onClosed: (listener: (result: { error?: unknown }) => void) => Unsubscribe = () => () => {},
): AsyncGenerator<Publication<unknown>, void, undefined> {
  const waiting: Publication<unknown>[] = [];
  let ended: { error?: unknown } | undefined;
  let wake = () => {};
  const end = (result: { error?: unknown }) => {
    ended ??= result;
    for (const remove of removals) remove();
    wake();
  };
  const abort = () => {
    waiting.length = 0;
    end({ error: signal?.reason });
  };
  const removals = [
    channel.on("message", (message) => {
      waiting.push(message);
      if (waiting.length > MAX_WAITING) end({ error: new HauynaError("overflow", `more than ${MAX_WAITING} messages wait`) });
      wake();
    }),
    channel.onState((state) => state.name === "unsubscribed" && end(state)),
    onClosed(end),
    onAbort(signal, abort),
  ];
  if (signal?.aborted) abort();
  const loop = (async function* () {
    try {
      for (;;) {
        const next = waiting.shift();
        if (next) yield next;
        else if (ended) break;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
      if (ended.error) throw ended.error;
    } finally {
      end({});
    }
  })();
  // The `finally` block of a generator that never started does not run.
  const returnLoop = loop.return.bind(loop);
  loop.return = (value) => (end({}), returnLoop(value));
  return loop;
}

/** Iterates over the history page by page, newest first. */
export async function* older(
  channel: Readable,
  { before, limit, signal }: Pick<HistoryRange, "before" | "limit" | "signal">,
): AsyncGenerator<HistoryMessage<{ message: unknown }>, void, undefined> {
  for (let position: Position | undefined = before; ; ) {
    const page = await channel.history({ ...(position ? { before: position } : { reverse: true }), limit, signal });
    for (const message of page.messages as HistoryMessage<{ message: unknown }>[]) {
      if (signal?.aborted) throw signal.reason;
      yield message;
    }
    const { last, oldest } = page;
    if (!last || last.offset <= oldest || (position && last.offset >= position.offset)) return;
    position = last;
  }
}

/** How many messages may wait for the loop. */
const MAX_WAITING = 10_000;
