"use client";
// The bindings for React 18 and 19. Every hook reads a store of stores.ts, which contains everything that is
// not specific to React.

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
} from "./binding-types.js";
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

export type { ChannelNamed, EventData } from "./contract-lookup.js";
export type * from "./stores.js";

const ClientContext = /* @__PURE__ */ createContext<AnyClient | null>(null);

/**
 * Provides a client to the components inside, and connects it while it is mounted. A client that was
 * connected before is never closed.
 */
export function HauynaProvider({ client, children }: { client: AnyClient; children?: ReactNode }): ReactNode {
  useEffect(() => holdConnection(client), [client]);
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** Returns the client of the nearest provider. */
export function useClient<T extends Contract = Contract>(): Client<T> {
  const client = useContext(ClientContext);
  if (!client) throw new Error("there is no HauynaProvider around this component");
  return client;
}

/** Returns the state of the connection, with the time of the next attempt. */
export function useConnection(): State {
  const client = useClient();
  return useStore(useMemo(() => createConnectionState(client, true), [client]));
}

/**
 * Subscribes to a channel while the component is mounted; null subscribes to nothing. The same name gives the
 * same object.
 */
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

/** Returns the state of the subscription, with its error. */
export function useChannelState(channel: AnyChannel | null): ChannelState {
  return useStore(useMemo(() => createChannelState(channel), [channel]));
}

/** Calls the handler for every message of this type. The handler may change with each render. */
export function useEvent<C, Event extends (keyof C & string) | "message" | "channel_event">(
  channel: Channel<C, any> | null,
  type: Event,
  handler: (message: MessageOf<C, Event>) => void,
): void {
  const latest = useLatest(handler);
  useEffect(() => channel?.on(type, (message) => latest.current(message)), [channel, type, latest]);
}

/**
 * Calls the handler for the client events of this type from other clients, and returns a function that sends
 * one.
 */
export function useClientEvent<E, Type extends keyof E & string>(
  channel: Channel<any, E> | null,
  type: Type,
  handler?: (event: ClientEvent<Type, E[Type]>) => void,
): (...data: EventData<E[Type]>) => void {
  const latest = useLatest(handler);
  useEffect(() => channel?.onEvent(type, (event) => latest.current?.(event)), [channel, type, latest]);
  return useCallback((...data) => channel?.send(type, ...(data as [never])), [channel, type]);
}

/** Returns the members of a channel. It needs a subscription to the channel. */
export function usePresence(channel: AnyChannel | null): PresenceState {
  return useStore(useMemo(() => createPresence(channel), [channel]));
}

/**
 * Returns the messages of a channel in one list: the history, live, recovered and this client's messages. New
 * options take effect when the channel changes.
 */
export function useMessages<C>(
  channel: Channel<C, any> | null,
  options?: MessagesOptions,
): MessagesState<ContentOf<C>> & MessageActions<ContentOf<C>> {
  const client = useClient();
  const create = () => createMessageList(client, channel, options);
  return useStoreWithActions(useMemo(create, [client, channel]));
}

/** Returns a request to the application with its state. New options take effect when the name changes. */
export function useRequest<Data = object, Reply = unknown>(
  name: string,
  options?: RequestOptions,
): RequestState<Reply> & RequestActions<Data, Reply> {
  const client = useClient();
  return useStoreWithActions(useMemo(() => createRequest<Data, Reply>(client, name as never, options), [client, name]));
}

/**
 * Returns who is typing in a channel, and functions that announce that this user is. New options take effect
 * when the channel changes.
 */
export function useTyping<E>(channel: Channel<any, E> | null, ...options: TypingArguments<E>): TypingState & TypingActions {
  const client = useClient();
  return useStoreWithActions(useMemo(() => createTyping(client, channel, ...options), [client, channel]));
}

/** The hooks whose types depend on the contract. */
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

/** Returns the hooks typed by the contract. Call it once for an application. */
export function createHooks<T extends Contract>(): Hooks<T> {
  return { useClient, useChannel, useRequest } as unknown as Hooks<T>;
}

function useStore<T>({ subscribe, get, initial }: Store<T>): T {
  return useSyncExternalStore(subscribe, get, () => initial);
}

/** Returns the value of a store together with its actions. */
function useStoreWithActions<T extends object, A>(store: Store<T> & A): T & Omit<A, keyof Store<T>> {
  const state = useStore(store);
  return useMemo(() => ({ ...store, ...state }), [store, state]);
}

/** Returns a reference to the value of the last render. */
function useLatest<T>(value: T): { current: T } {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
