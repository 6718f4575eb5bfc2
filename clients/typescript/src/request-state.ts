// A request to the application with its state: the store behind `useRequest`.

import type { AnyClient, Client, Contract, HauynaError, RequestData, RequestName, RequestOptions, RequestReply } from "hauyna";
import { type Store, createStore, nothing } from "./store.js";

/** The state of the last request. */
export interface RequestState<Reply> {
  /** The reply to the last successful request. */
  readonly reply: Reply | undefined;
  /** Why the last request failed. */
  readonly error: HauynaError | undefined;
  /** Whether the request waits for its answer. */
  readonly isPending: boolean;
}

/** Sends the request. */
export interface RequestActions<Data, Reply> {
  /**
   * Sends the request. The promise is never rejected: it resolves with undefined after a failure, which is
   * the `error` of the state.
   */
  request(...data: object extends Data ? [data?: Data] : [data: Data]): Promise<Reply | undefined>;
}

type RequestStore<Data, Reply> = Store<RequestState<Reply>> & RequestActions<Data, Reply>;

/** Creates the store of a request. If requests overlap, the state is that of the last one. */
export function createRequest<Data = never, Reply = unknown>(
  client: AnyClient,
  name: [Data] extends [never] ? never : string,
  options?: RequestOptions,
): RequestStore<Data, Reply>;
export function createRequest<T extends Contract, Name extends RequestName<T>>(
  client: Client<T>,
  name: Name,
  options?: RequestOptions,
): RequestStore<RequestData<T, Name>, RequestReply<T, Name>>;
export function createRequest(client: AnyClient, name: string, options?: RequestOptions): RequestStore<object, unknown> {
  let state: RequestState<unknown> = { reply: undefined, error: undefined, isPending: false };
  let generation = 0;
  let notify = nothing;
  const setState = (part: Partial<RequestState<unknown>>) => {
    state = { ...state, error: undefined, isPending: false, ...part };
    notify();
  };
  const start = (changed: () => void) => {
    notify = changed;
    return () => {
      notify = nothing;
    };
  };
  return {
    ...createStore(() => state, start, state, client.environment),
    async request(data?) {
      const requestGeneration = ++generation;
      setState({ isPending: true });
      try {
        const reply = await client.request(name as never, data as never, options);
        if (requestGeneration === generation) setState({ reply });
        return reply;
      } catch (error) {
        if (requestGeneration === generation) setState({ error: error as HauynaError });
        return undefined;
      }
    },
  };
}
