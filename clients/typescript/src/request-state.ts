// A request of an application, with what became of it: the store behind `useRequest`.

import type { AnyClient, HauynaError, RequestOptions } from "hauyna";
import { type Store, createStore } from "./store.js";

/** What became of the last request. */
export interface RequestState<Reply> {
  /** The reply to the last request that had one. */
  readonly reply: Reply | undefined;
  /** Why the last request failed. */
  readonly error: HauynaError | undefined;
  /** There is no answer yet. */
  readonly isPending: boolean;
}

/** Asks, and says what became of it. */
export interface RequestActions<Data, Reply> {
  /** Never rejects: a failure resolves with undefined, and is the `error` of the state. */
  request(...data: object extends Data ? [data?: Data] : [data: Data]): Promise<Reply | undefined>;
}

/** Asks the application. Where requests overlap, the state is that of the last one. */
export function createRequest<Data, Reply>(
  client: AnyClient,
  name: string,
  options?: RequestOptions,
): Store<RequestState<Reply>> & RequestActions<Data, Reply> {
  let state: RequestState<Reply> = { reply: undefined, error: undefined, isPending: false };
  let turn = 0;
  let tell = () => {};
  const become = (part: Partial<RequestState<Reply>>) => {
    state = { ...state, error: undefined, isPending: false, ...part };
    tell();
  };
  const start = (changed: () => void) => {
    tell = changed;
    return () => {
      tell = () => {};
    };
  };
  return {
    ...createStore(() => state, start),
    async request(data?) {
      const own = ++turn;
      become({ isPending: true });
      try {
        const reply = (await client.request(name as never, data as never, options)) as Reply;
        if (own === turn) become({ reply });
        return reply;
      } catch (error) {
        if (own === turn) become({ error: error as HauynaError });
        return undefined;
      }
    },
  };
}
