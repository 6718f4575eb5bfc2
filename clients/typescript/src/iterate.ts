// A channel as iterators: what is published from now on, and what was published before, back to the beginning.

import type { Channel, ChannelState, HistoryRange, Past, Publication } from "./channel.js";
import { HauynaError } from "./error.js";
import type { Position } from "./protocol.js";
import type { AbortSignalLike } from "./standard.js";

type Readable = Pick<Channel, "on" | "onState" | "history">;

/** Gives out the publications from now on, until the subscription ends or the signal is aborted. */
export function messages(channel: Readable, signal?: AbortSignalLike): AsyncIterableIterator<Publication<unknown>> {
  const waiting: Publication<unknown>[] = [];
  let failure: unknown;
  let isOver = false;
  let wake = () => {};
  const end = (error?: unknown) => {
    if (isOver) return;
    isOver = true;
    failure = error;
    for (const off of offs) off();
    wake();
  };
  const abort = () => end(signal?.reason);
  const offs = [
    channel.on("message", (message) => {
      waiting.push(message);
      if (waiting.length > MOST) end(new HauynaError("overflow", `more than ${MOST} messages wait`));
      wake();
    }),
    channel.onState(({ name, error }: ChannelState) => name === "unsubscribed" && end(error)),
    () => signal?.removeEventListener("abort", abort),
  ];
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  return {
    async next() {
      while (!waiting[0] && !isOver) await new Promise<void>((resolve) => (wake = resolve));
      const value = waiting.shift();
      if (value) return { value, done: false };
      const error = failure;
      failure = undefined;
      if (error) throw error;
      return { value: undefined, done: true };
    },
    async return() {
      end();
      waiting.length = 0;
      return { value: undefined, done: true };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** Gives out what was published before, the newest first, page by page. */
export async function* older(
  channel: Readable,
  { before, limit, signal }: Pick<HistoryRange, "before" | "limit" | "signal">,
): AsyncGenerator<Past<{ message: unknown }>, void, undefined> {
  for (let at: Position | undefined = before; ; ) {
    const page = await channel.history({ ...(at ? { before: at } : { reverse: true }), limit, signal });
    yield* page.messages as Past<{ message: unknown }>[];
    at = page.last;
    if (!at || at.offset <= page.oldest) return;
  }
}

/** How many messages wait at most. */
const MOST = 10_000;
