// The bindings for Svelte 5. Every function returns an object that is reactive when it is read, and is also a
// store for `$`. It works while it is read; nothing happens on a rendering server. stores.ts contains
// everything that is not specific to Svelte.

import { getContext, onMount, setContext } from "svelte";
import { createSubscriber } from "svelte/reactivity";
import { toStore } from "svelte/store";
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
  Unsubscribe,
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

/** A value that is reactive when `current` is read, and a store: `$value`. */
export interface Reactive<T> {
  readonly current: T;
  subscribe(run: (value: T) => void): Unsubscribe;
}

/** A value, or a function that reads it: `() => name`. */
export type MaybeGetter<T> = T | (() => T);

/** A channel, a function that reads it, or the result of {@link useChannel}. */
export type ChannelSource<C = any, E = any> = MaybeGetter<Channel<C, E> | null> | Reactive<Channel<C, E> | null>;

const KEY = "hauyna";

/** Provides a client to the components inside this one, and connects it while this one is mounted. */
export function provideClient(client: AnyClient): void {
  setContext(KEY, client);
  onMount(() => holdConnection(client));
}

/** Returns the client of the nearest component that provides one. */
export function useClient<T extends Contract = Contract>(): Client<T> {
  const client = getContext<AnyClient | undefined>(KEY);
  if (!client) throw new Error("no client is provided: provideClient(client) in a component around this one");
  return client;
}

/** Returns the state of the connection, with the time of the next attempt. */
export function useConnection(): Reactive<State> {
  const client = useClient();
  return reactive(() => client, () => createConnectionState(client, true));
}

/** Subscribes to a channel while `current` is read; null subscribes to nothing. */
export function useChannel<C extends object = AnyContent, E extends object = AnyEvents>(
  name: MaybeGetter<string | null>,
  options?: MaybeGetter<SubscribeOptions | undefined>,
): Reactive<Channel<C, E> | null> {
  const client = useClient();
  return reactive(
    () => readSource(name),
    (value) => createChannel<AnyContent>(client, value, () => readSource(options)),
  ) as Reactive<any>;
}

/** Returns the state of the subscription, with its error. */
export function useChannelState(channel: ChannelSource): Reactive<ChannelState> {
  return reactive(() => channelOf(channel), createChannelState);
}

/** Calls the handler for every message of this type. */
export function useEvent<C, Event extends (keyof C & string) | "message" | "channel_event">(
  channel: ChannelSource<C>,
  type: Event,
  handler: (message: MessageOf<C, Event>) => void,
): void {
  listenToChannel(channel, (room) => room.on(type, handler));
}

/**
 * Calls the handler for the client events of this type from other clients, and returns a function that sends
 * one.
 */
export function useClientEvent<E, Type extends keyof E & string>(
  channel: ChannelSource<any, E>,
  type: Type,
  handler?: (event: ClientEvent<Type, E[Type]>) => void,
): (...data: EventData<E[Type]>) => void {
  if (handler) listenToChannel(channel, (room) => room.onEvent(type, handler));
  return (...data) => channelOf(channel)?.send(type, ...data);
}

/** Returns the members of a channel. It needs a subscription to the channel. */
export function usePresence(channel: ChannelSource): Reactive<PresenceState> {
  return reactive(() => channelOf(channel), createPresence);
}

/**
 * Returns the messages of a channel in one list: the history, live, recovered and this client's messages. New
 * options take effect when the channel changes.
 */
export function useMessages<C>(
  channel: ChannelSource<C>,
  options?: MessagesOptions,
): Reactive<MessagesState<ContentOf<C>>> & MessageActions<ContentOf<C>> {
  const client = useClient();
  const list = reactive(() => channelOf(channel), (room) => createMessageList<C>(client, room, options));
  return withActions(list, ["publish", "retry", "discard", "loadOlder"]);
}

/** Returns a request to the application with its state. */
export function useRequest<Data = object, Reply = unknown>(
  name: string,
  options?: RequestOptions,
): Reactive<RequestState<Reply>> & RequestActions<Data, Reply> {
  const client = useClient();
  return withActions(reactive(() => name, () => createRequest<Data, Reply>(client, name as never, options)), ["request"]);
}

/**
 * Returns who is typing in a channel, and functions that announce that this user is. New options take effect
 * when the channel changes.
 */
export function useTyping<E>(channel: ChannelSource<any, E>, ...options: TypingArguments<E>): Reactive<TypingState> & TypingActions {
  const client = useClient();
  const typing = reactive(() => channelOf(channel), (room) => createTyping<E>(client, room, ...options));
  return withActions(typing, ["startTyping", "stopTyping"]);
}

/** The functions whose types depend on the contract. */
export interface Bindings<T extends Contract> {
  readonly useClient: () => Client<T>;
  readonly useChannel: <const Name extends string>(
    name: MaybeGetter<Name | null> & Known<T, Name>,
    options?: MaybeGetter<SubscribeOptions | undefined>,
  ) => Reactive<ChannelNamed<T, Name> | null>;
  readonly useRequest: <Name extends RequestName<T>>(
    name: Name,
    options?: RequestOptions,
  ) => Reactive<RequestState<RequestReply<T, Name>>> & RequestActions<RequestData<T, Name>, RequestReply<T, Name>>;
}

/** Returns the functions typed by the contract. Call it once for an application. */
export function createBindings<T extends Contract>(): Bindings<T> {
  return { useClient, useChannel, useRequest } as unknown as Bindings<T>;
}

/** Returns the value of the store that `create` returns. If the source changes, another store is created. */
function reactive<Source, T, S extends Store<T>>(
  source: () => Source,
  create: (value: Source) => S & Store<T>,
): Reactive<T> & { readonly store: S } {
  let latest: { of: Source; store: S & Store<T>; track: () => void } | undefined;
  const current = () => {
    const value = source();
    if (!latest || latest.of !== value) {
      const store = create(value);
      latest = { of: value, store, track: createSubscriber(store.subscribe) };
    }
    return latest;
  };
  const value = {
    get store() {
      return current().store;
    },
    get current() {
      const { store, track } = current();
      track();
      return typeof document === "undefined" ? store.initial : store.get();
    },
    subscribe: (run: (value: T) => void) => toStore(() => value.current).subscribe(run),
  };
  return value;
}

/** Adds functions that call those of the current store. */
function withActions<T, S extends object, Name extends keyof S>(
  value: Reactive<T> & { readonly store: S },
  names: Name[],
): Reactive<T> & Pick<S, Name> {
  const call = (name: Name) => [name, (...args: unknown[]) => (value.store[name] as (...args: unknown[]) => unknown)(...args)];
  return Object.assign(value, Object.fromEntries(names.map(call))) as never;
}

/** Calls `listen` with the channel, and again with each other channel, until the component is unmounted. */
function listenToChannel<C, E>(source: ChannelSource<C, E>, listen: (room: Channel<C, E>) => Unsubscribe): void {
  onMount(() => {
    let removeListener: Unsubscribe | undefined;
    const endUpdates = toStore(() => channelOf(source)).subscribe((room) => {
      removeListener?.();
      removeListener = room ? listen(room) : undefined;
    });
    return () => {
      endUpdates();
      removeListener?.();
    };
  });
}

function readSource<T>(source: MaybeGetter<T>): T {
  return typeof source === "function" ? (source as () => T)() : source;
}

function channelOf(source: ChannelSource): AnyChannel | null {
  const channel = readSource(source);
  return channel && "current" in channel ? channel.current : channel;
}
