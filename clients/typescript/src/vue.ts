// Vue 3. Every composable reads a store of stores.ts; what is not Vue's own is there. They work in any effect scope, and
// begin once the component is mounted: nothing happens on a server that renders pages.

import type {
  AnyChannel,
  AnyClient,
  AnyContent,
  AnyEvents,
  Channel,
  ChannelState,
  Client,
  ClientEvent,
  ContentOf,
  Contract,
  MessageOf,
  RequestData,
  RequestName,
  RequestOptions,
  RequestReply,
  State,
  SubscribeOptions,
} from "hauyna";
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
  watchEffect,
} from "vue";
import type { ChannelNamed, EventData, Known } from "./named.js";
import {
  type MessageActions,
  type MessagesOptions,
  type MessagesState,
  type PresenceState,
  type RequestActions,
  type RequestState,
  type Store,
  type TypingActions,
  type TypingOptions,
  type TypingState,
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

/** The fields of a state, each as a ref. */
export type Refs<T> = { readonly [Field in keyof T]: Readonly<Ref<T[Field]>> };

const KEY: InjectionKey<AnyClient> = /* @__PURE__ */ Symbol("hauyna");

/** A plugin that gives a client to every component: `app.use(hauyna, client)`. Connects it, until the application is unmounted. */
export const hauyna: Plugin<[client: AnyClient]> = {
  install(app, client) {
    app.provide(KEY, client);
    // Not on a server that renders pages.
    if (typeof document !== "undefined") app.onUnmount(holdConnection(client));
  },
};

/** Gives a client to the components inside this one, and connects it while this one is mounted. */
export function provideClient(client: AnyClient): void {
  provide(KEY, client);
  begin((onCleanup) => onCleanup(holdConnection(client)));
}

/** The client of the plugin, or of the nearest component that provides one. */
export function useClient<T extends Contract = Contract>(): Client<T> {
  const client = inject(KEY, null);
  if (!client) throw new Error("no client is provided: app.use(hauyna, client) or provideClient(client)");
  return client;
}

/** How the connection is, with the moment of the next attempt. */
export function useConnection(): Readonly<ShallowRef<State>> {
  const client = useClient();
  return useStore(() => createConnectionState(client)).value;
}

/** Subscribes to a channel until the scope ends; null is none. */
export function useChannel<C extends object = AnyContent, E extends object = AnyEvents>(
  name: MaybeRefOrGetter<string | null>,
  options?: MaybeRefOrGetter<SubscribeOptions | undefined>,
): Readonly<ShallowRef<Channel<C, E> | null>> {
  const client = useClient();
  return useStore(() => createChannel(client, toValue(name), () => toValue(options))).value as ShallowRef<never>;
}

/** How this client stands to a channel: whether it is subscribed, and why not. */
export function useChannelState(channel: MaybeRefOrGetter<AnyChannel | null>): Readonly<ShallowRef<ChannelState>> {
  return useStore(() => createChannelState(toValue(channel))).value;
}

/** Listens to messages of a channel of one type. */
export function useEvent<C, Event extends (keyof C & string) | "message" | "channel_event">(
  channel: MaybeRefOrGetter<Channel<C, any> | null>,
  type: Event,
  handler: (message: MessageOf<C, Event>) => void,
): void {
  begin((onCleanup) => {
    const off = toValue(channel)?.on(type, handler);
    if (off) onCleanup(off);
  });
}

/** Listens to the client events of others of one type, and returns what sends one. */
export function useClientEvent<E, Type extends keyof E & string>(
  channel: MaybeRefOrGetter<Channel<any, E> | null>,
  type: Type,
  handler?: (event: ClientEvent<Type, E[Type]>) => void,
): (...data: EventData<E[Type]>) => void {
  begin((onCleanup) => {
    const off = handler && toValue(channel)?.onEvent(type, handler);
    if (off) onCleanup(off);
  });
  return (...data) => toValue(channel)?.send(type, ...(data as [never]));
}

/** Who is present. Needs a subscription to the channel. */
export function usePresence(channel: MaybeRefOrGetter<AnyChannel | null>): Refs<PresenceState> {
  const { value } = useStore(() => createPresence(toValue(channel)));
  return refs(value, ["users", "count", "isListed"]);
}

/** The messages of a channel: history, live, recovered and own ones, in one list. Options count when the channel changes. */
export function useMessages<C>(
  channel: MaybeRefOrGetter<Channel<C, any> | null>,
  options?: MessagesOptions,
): Refs<MessagesState<ContentOf<C>>> & MessageActions<ContentOf<C>> {
  const client = useClient();
  const make = () => createMessageList<ContentOf<C>>(client, toValue(channel), options);
  const { value, store } = useStore(make);
  return {
    ...refs(value, ["messages", "hasOlder", "isLoading", "error"]),
    publish: (content) => store.value.publish(content),
    retry: (key) => store.value.retry(key),
    discard: (key) => store.value.discard(key),
    loadOlder: () => store.value.loadOlder(),
  };
}

/** A request of the application, and what became of it. */
export function useRequest<Data = object, Reply = unknown>(
  name: string,
  options?: RequestOptions,
): Refs<RequestState<Reply>> & RequestActions<Data, Reply> {
  const client = useClient();
  const { value, store } = useStore(() => createRequest<Data, Reply>(client, name, options));
  return { ...refs(value, ["reply", "error", "isPending"]), request: (...data) => store.value.request(...data) };
}

/** Who types in a channel, and what says that this user does. Options count when the channel changes. */
export function useTyping(
  channel: MaybeRefOrGetter<AnyChannel | null>,
  options?: TypingOptions,
): Refs<TypingState> & TypingActions {
  const client = useClient();
  const { value, store } = useStore(() => createTyping(client, toValue(channel), options));
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

/** The composables whose types depend on the contract, typed by it: once for an application. */
export function createComposables<T extends Contract>(): Composables<T> {
  return { useClient, useChannel, useRequest } as unknown as Composables<T>;
}

/** The store that `make` gives, another one where what `make` reads has changed, and its value. */
function useStore<T, S extends Store<T>>(make: () => S & Store<T>): { value: ShallowRef<T>; store: ComputedRef<S> } {
  const store = computed(make);
  const value = shallowRef(store.value.initial) as ShallowRef<T>;
  begin((onCleanup) => {
    const { get, subscribe } = store.value;
    const read = () => {
      value.value = get();
    };
    onCleanup(subscribe(read));
    read();
  });
  return { value, store };
}

/** Runs an effect in the current scope: once the component is mounted, or at once where there is none that will be. */
function begin(run: (onCleanup: (off: () => void) => void) => void): void {
  const scope = getCurrentScope();
  const start = () => watchEffect(run, { flush: "sync" });
  const instance = getCurrentInstance();
  if (instance && !instance.isMounted) onMounted(() => scope?.run(start));
  else start();
}

function refs<T extends object, Field extends keyof T>(value: ShallowRef<T>, fields: Field[]): Refs<Pick<T, Field>> {
  return Object.fromEntries(fields.map((field) => [field, computed(() => value.value[field])])) as never;
}
