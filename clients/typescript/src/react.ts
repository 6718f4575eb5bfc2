"use client";
// React 18 and 19. Every hook reads a store of stores.ts; what is not React's own is there.

import {
  type ReactNode,
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useInsertionEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from "react";
import type {
  AnyChannel,
  AnyClient,
  AnyContent,
  AnyEvents,
  Channel,
  ChannelNamed,
  ChannelState,
  Client,
  ClientEvent,
  ContentOf,
  Contract,
  EventData,
  Known,
  MessageActions,
  MessageOf,
  MessagesOptions,
  MessagesState,
  PresenceState,
  RequestActions,
  RequestData,
  RequestName,
  RequestOptions,
  RequestReply,
  RequestState,
  State,
  Store,
  SubscribeOptions,
  TypingActions,
  TypingArguments,
  TypingState,
} from "./binding.js";
import {
  createChannel,
  createChannelState,
  createConnectionState,
  createMessageList,
  createPresence,
  createRequest,
  createTyping,
  holdConnection,
} from "./stores.js";

export type { ChannelNamed, EventData } from "./named.js";
export type * from "./stores.js";

const ClientContext = /* @__PURE__ */ createContext<AnyClient | null>(null);

/**
 * Gives a client to the components inside, and connects it while it is mounted. A client that was connected before is left to
 * the code that has connected it.
 */
export function HauynaProvider({ client, children }: { client: AnyClient; children?: ReactNode }): ReactNode {
  useEffect(() => holdConnection(client), [client]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the provider around. */
export function useClient<T extends Contract = Contract>(): Client<T> {
  const client = useContext(ClientContext);
  if (!client) throw new Error("there is no HauynaProvider around this component");
  return client;
}

/** How the connection is, with the moment of the next attempt. */
export function useConnection(): State {
  const client = useClient();
  return useStore(useMemo(() => createConnectionState(client, true), [client]));
}

/** Subscribes to a channel while the component is mounted; null is none. The same object as long as the name is the same. */
export function useChannel<C extends object = AnyContent, E extends object = AnyEvents>(
  name: string,
  options?: SubscribeOptions,
): Channel<C, E>;
export function useChannel<C extends object = AnyContent, E extends object = AnyEvents>(
  name: string | null,
  options?: SubscribeOptions,
): Channel<C, E> | null;
export function useChannel(name: string | null, options?: SubscribeOptions): unknown {
  const client = useClient();
  const latest = useLatest(options);
  return useStore(useMemo(() => createChannel<AnyContent>(client, name, () => latest.current), [client, name, latest]));
}

/** How this client stands to a channel: whether it is subscribed, and why not. */
export function useChannelState(channel: AnyChannel | null): ChannelState {
  return useStore(useMemo(() => createChannelState(channel), [channel]));
}

/** Listens to messages of a channel of one type. The handler may be another one with each render. */
export function useEvent<C, Event extends (keyof C & string) | "message" | "channel_event">(
  channel: Channel<C, any> | null,
  type: Event,
  handler: (message: MessageOf<C, Event>) => void,
): void {
  const latest = useLatest(handler);
  useEffect(() => channel?.on(type, (message) => latest.current(message)), [channel, type, latest]);
}

/** Listens to the client events of others of one type, and returns what sends one. */
export function useClientEvent<E, Type extends keyof E & string>(
  channel: Channel<any, E> | null,
  type: Type,
  handler?: (event: ClientEvent<Type, E[Type]>) => void,
): (...data: EventData<E[Type]>) => void {
  const latest = useLatest(handler);
  useEffect(() => channel?.onEvent(type, (event) => latest.current?.(event)), [channel, type, latest]);
  return useCallback((...data) => channel?.send(type, ...(data as [never])), [channel, type]);
}

/** Who is present. Needs a subscription to the channel. */
export function usePresence(channel: AnyChannel | null): PresenceState {
  return useStore(useMemo(() => createPresence(channel), [channel]));
}

/** The messages of a channel: history, live, recovered and own ones, in one list. Options count when the channel changes. */
export function useMessages<C>(
  channel: Channel<C, any> | null,
  options?: MessagesOptions,
): MessagesState<ContentOf<C>> & MessageActions<ContentOf<C>> {
  const client = useClient();
  const make = () => createMessageList(client, channel, options);
  return useBoth(useMemo(make, [client, channel]));
}

/** A request of the application, and what became of it. Options count when the name changes. */
export function useRequest<Data = object, Reply = unknown>(
  name: string,
  options?: RequestOptions,
): RequestState<Reply> & RequestActions<Data, Reply> {
  const client = useClient();
  return useBoth(useMemo(() => createRequest<Data, Reply>(client, name as never, options), [client, name]));
}

/** Who types in a channel, and what says that this user does. Options count when the channel changes. */
export function useTyping<E>(channel: Channel<any, E> | null, ...options: TypingArguments<E>): TypingState & TypingActions {
  const client = useClient();
  return useBoth(useMemo(() => createTyping(client, channel, ...options), [client, channel]));
}

/** The hooks, typed by a contract. */
export interface Hooks<T extends Contract> {
  readonly useClient: () => Client<T>;
  readonly useChannel: {
    <const Name extends string>(name: Name & Known<T, Name>, options?: SubscribeOptions): ChannelNamed<T, Name>;
    <const Name extends string>(name: (Name & Known<T, Name>) | null, options?: SubscribeOptions): ChannelNamed<T, Name> | null;
  };
  readonly useRequest: <Name extends RequestName<T>>(
    name: Name,
    options?: RequestOptions,
  ) => RequestState<RequestReply<T, Name>> & RequestActions<RequestData<T, Name>, RequestReply<T, Name>>;
}

/** The hooks whose types depend on the contract, typed by it: once for an application. */
export function createHooks<T extends Contract>(): Hooks<T> {
  return { useClient, useChannel, useRequest } as unknown as Hooks<T>;
}

function useStore<T>({ subscribe, get, initial }: Store<T>): T {
  return useSyncExternalStore(subscribe, get, () => initial);
}

/** The value of a store, and what can be done with it. */
function useBoth<T extends object, A>(store: Store<T> & A): T & Omit<A, keyof Store<T>> {
  const state = useStore(store);
  return useMemo(() => ({ ...store, ...state }), [store, state]);
}

/** What the last render was given. */
function useLatest<T>(value: T): { current: T } {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
