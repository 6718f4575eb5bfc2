// The bindings for Vue 3. Every composable reads a store of stores.ts, which contains everything that is not
// specific to Vue. Composables work in any effect scope, and start when the component is mounted, so nothing
// happens on a rendering server.

import {
  type ComputedRef,
  type InjectionKey,
  type MaybeRefOrGetter,
  type Plugin,
  type Ref,
  type ShallowRef,
  computed,
  getCurrentInstance,
  getCurrentScope,
  inject,
  onMounted,
  provide,
  shallowRef,
  toValue,
  watch,
} from "vue";
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

/** The fields of a state, each as a ref. */
export type Refs<T> = { readonly [Field in keyof T]: Readonly<Ref<T[Field]>> };

const KEY: InjectionKey<AnyClient> = /* @__PURE__ */ Symbol("hauyna");

/**
 * A plugin that provides a client to every component: `app.use(hauyna, client)`. It connects the client until
 * the application is unmounted.
 */
export const hauyna: Plugin<[client: AnyClient]> = {
  install(app, client) {
    app.provide(KEY, client);
    // A rendering server does not connect.
    if (typeof document !== "undefined") app.onUnmount(holdConnection(client));
  },
};

/** Provides a client to the components inside this one, and connects it while this one is mounted. */
export function provideClient(client: AnyClient): void {
  provide(KEY, client);
  runWith(() => client, holdConnection);
}

/** Returns the client of the plugin, or of the nearest component that provides one. */
export function useClient<T extends Contract = Contract>(): Client<T> {
  const client = inject(KEY, null);
  if (!client) throw new Error("no client is provided: app.use(hauyna, client), or provideClient(client) in a component around this one");
  return client;
}

/** Returns the state of the connection, with the time of the next attempt. */
export function useConnection(): Readonly<ShallowRef<State>> {
  const client = useClient();
  return useStore(() => client, () => createConnectionState(client, true)).value;
}

/** Subscribes to a channel until the scope ends; null subscribes to nothing. */
export function useChannel<C extends object = AnyContent, E extends object = AnyEvents>(
  name: MaybeRefOrGetter<string | null>,
  options?: MaybeRefOrGetter<SubscribeOptions | undefined>,
): Readonly<ShallowRef<Channel<C, E> | null>> {
  const client = useClient();
  return useStore(
    () => toValue(name),
    (current) => createChannel<AnyContent>(client, current, () => toValue(options)),
  ).value as ShallowRef<never>;
}

/** Returns the state of the subscription, with its error. */
export function useChannelState(channel: MaybeRefOrGetter<AnyChannel | null>): Readonly<ShallowRef<ChannelState>> {
  return useStore(() => toValue(channel), createChannelState).value;
}

/** Calls the handler for every message of this type. */
export function useEvent<C, Event extends (keyof C & string) | "message" | "channel_event">(
  channel: MaybeRefOrGetter<Channel<C, any> | null>,
  type: Event,
  handler: (message: MessageOf<C, Event>) => void,
): void {
  runWith(
    () => toValue(channel),
    (current) => current?.on(type, handler),
  );
}

/**
 * Calls the handler for the client events of this type from other clients, and returns a function that sends
 * one.
 */
export function useClientEvent<E, Type extends keyof E & string>(
  channel: MaybeRefOrGetter<Channel<any, E> | null>,
  type: Type,
  handler?: (event: ClientEvent<Type, E[Type]>) => void,
): (...data: EventData<E[Type]>) => void {
  runWith(
    () => toValue(channel),
    (current) => handler && current?.onEvent(type, handler),
  );
  return (...data) => toValue(channel)?.send(type, ...(data as [never]));
}

/** Returns the members of a channel. It needs a subscription to the channel. */
export function usePresence(channel: MaybeRefOrGetter<AnyChannel | null>): Refs<PresenceState> {
  const { value } = useStore(() => toValue(channel), createPresence);
  return refs(value, ["users", "count", "isListed"]);
}

/**
 * Returns the messages of a channel in one list: the history, live, recovered and this client's messages. New
 * options take effect when the channel changes.
 */
export function useMessages<C>(
  channel: MaybeRefOrGetter<Channel<C, any> | null>,
  options?: MessagesOptions,
): Refs<MessagesState<ContentOf<C>>> & MessageActions<ContentOf<C>> {
  const client = useClient();
  const { value, store } = useStore(
    () => toValue(channel),
    (current) => createMessageList(client, current, options),
  );
  return {
    ...refs(value, ["messages", "hasOlder", "isLoading", "error"]),
    publish: (content) => store.value.publish(content),
    retry: (key) => store.value.retry(key),
    discard: (key) => store.value.discard(key),
    loadOlder: () => store.value.loadOlder(),
  };
}

/** Returns a request to the application with its state. */
export function useRequest<Data = object, Reply = unknown>(
  name: string,
  options?: RequestOptions,
): Refs<RequestState<Reply>> & RequestActions<Data, Reply> {
  const client = useClient();
  const { value, store } = useStore(
    () => name,
    () => createRequest<Data, Reply>(client, name as never, options),
  );
  return { ...refs(value, ["reply", "error", "isPending"]), request: (...data) => store.value.request(...data) };
}

/**
 * Returns who is typing in a channel, and functions that announce that this user is. New options take effect
 * when the channel changes.
 */
export function useTyping<E>(
  channel: MaybeRefOrGetter<Channel<any, E> | null>,
  ...options: TypingArguments<E>
): Refs<TypingState> & TypingActions {
  const client = useClient();
  const { value, store } = useStore(
    () => toValue(channel),
    (current) => createTyping(client, current, ...options),
  );
  return {
    ...refs(value, ["users"]),
    startTyping: () => store.value.startTyping(),
    stopTyping: () => store.value.stopTyping(),
  };
}

/** The composables whose types depend on the contract. */
export interface Composables<T extends Contract> {
  readonly useClient: () => Client<T>;
  readonly useChannel: <const Name extends string>(
    name: MaybeRefOrGetter<Name | null> & Known<T, Name>,
    options?: MaybeRefOrGetter<SubscribeOptions | undefined>,
  ) => Readonly<ShallowRef<ChannelNamed<T, Name> | null>>;
  readonly useRequest: <Name extends RequestName<T>>(
    name: Name,
    options?: RequestOptions,
  ) => Refs<RequestState<RequestReply<T, Name>>> & RequestActions<RequestData<T, Name>, RequestReply<T, Name>>;
}

/** Returns the composables typed by the contract. Call it once for an application. */
export function createComposables<T extends Contract>(): Composables<T> {
  return { useClient, useChannel, useRequest } as unknown as Composables<T>;
}

/**
 * Returns the store that `create` returns for the value of the source, and the store's value. Another value
 * creates another store.
 */
function useStore<Source, T, S extends Store<T>>(
  source: () => Source,
  create: (sourceValue: Source) => S & Store<T>,
): { value: ShallowRef<T>; store: ComputedRef<S> } {
  // The source is computed first, so that a change of its inputs that leaves the source the same creates no
  // store.
  const sourceValue = computed(source);
  const store = computed(() => create(sourceValue.value));
  const value = shallowRef(store.value.initial) as ShallowRef<T>;
  runWith(store, ({ get, subscribe }) => {
    const read = () => {
      value.value = get();
    };
    const cleanUp = subscribe(read);
    read();
    return cleanUp;
  });
  return { value, store };
}

/**
 * Calls `run` with the value of the source, and again with each other value, in the current scope: when the
 * component is mounted, or at once if there is no component that will be. Values that `run` reads are not
 * watched.
 */
function runWith<Source>(source: (() => Source) | ComputedRef<Source>, run: (sourceValue: Source) => (() => void) | undefined): void {
  const scope = getCurrentScope();
  const start = () => {
    const next = (sourceValue: Source, _: unknown, onCleanup: (cleanUp: () => void) => void) => {
      const cleanUp = run(sourceValue);
      if (cleanUp) onCleanup(cleanUp);
    };
    watch(source, next, { immediate: true, flush: "sync" });
  };
  const instance = getCurrentInstance();
  if (instance && !instance.isMounted) onMounted(() => scope?.run(start));
  else start();
}

function refs<T extends object, Field extends keyof T>(value: ShallowRef<T>, fields: Field[]): Refs<Pick<T, Field>> {
  return Object.fromEntries(fields.map((field) => [field, computed(() => value.value[field])])) as never;
}
