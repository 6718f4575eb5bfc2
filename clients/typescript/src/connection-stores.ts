// What a component keeps alive while it is mounted: the connection of a client, and a share of a channel's
// subscription; and the stores of both states.

import type {
  AnyChannel,
  AnyClient,
  AnyEvents,
  Channel,
  ChannelName,
  ChannelState,
  Client,
  Contract,
  State,
  SubscribeOptions,
  Unsubscribe,
} from "hauyna";
import type { ChannelNamed } from "./contract-lookup.js";
import { FRAME, type Store, createStore, endAll, nothing } from "./store.js";
import { onAbort } from "./runtime-types.js";

/**
 * Connects a client, and closes it when its last holder has released it. A client that was connected before
 * is never closed.
 */
export function holdConnection(client: AnyClient): Unsubscribe {
  let connection = connectionsOf.get(client);
  if (!connection) {
    const start = () => {
      if (client.state.name !== "closed") return nothing;
      client.connect().catch(nothing);
      return () => client.close();
    };
    connection = createStore(nothing, start, undefined, client.environment);
    connectionsOf.set(client, connection);
  }
  return connection.subscribe(nothing);
}

/**
 * Creates the store of the connection's state. With `isHeld`, a component is about to connect the client: a
 * closed client then counts as `connecting` for one frame, so that no page starts with "not connected".
 */
export function createConnectionState(client: AnyClient, isHeld = false): Store<State> {
  let isAboutToConnect = isHeld;
  const get = () => (isAboutToConnect && client.state.name === "closed" ? CONNECTING : client.state);
  const start = (changed: () => void) => {
    const settle = () => {
      isAboutToConnect = false;
      changed();
    };
    return endAll(client.onState(changed), isAboutToConnect ? client.environment.after(FRAME, settle) : nothing);
  };
  return createStore(get, start, CONNECTING, client.environment);
}

/**
 * Creates the store of a channel. While the store has listeners, it holds a share of the channel's
 * subscription, however often the client is closed and connected again. `options` is called when the
 * subscription begins, and for each token.
 */
export function createChannel<C extends object = never, E extends object = AnyEvents>(
  client: AnyClient,
  name: [C] extends [never] ? never : string | null,
  options?: () => SubscribeOptions | undefined,
): Store<Channel<C, E> | null>;
export function createChannel<T extends Contract, const Name extends string>(
  client: Client<T>,
  name: (ChannelName<T, Name> & Name) | null,
  options?: () => SubscribeOptions | undefined,
): Store<ChannelNamed<T, Name> | null>;
export function createChannel(client: AnyClient, name: string | null, options = nothing as () => SubscribeOptions | undefined): unknown {
  const channel = name === null ? null : client.channel(name);
  return createStore(
    () => channel,
    () => (channel ? holdSubscription(client, channel, options) : nothing),
    channel,
    client.environment,
  );
}

/** Adds a share to a channel's subscription as soon as the client is not closed. */
function holdSubscription(client: AnyClient, channel: AnyChannel, options: () => SubscribeOptions | undefined): Unsubscribe {
  const controller = new AbortController();
  let removeListener = nothing;
  // A closed client refuses new subscriptions. It keeps its confirmed ones, and ends those that wait for the
  // server.
  const subscribe = () => {
    removeListener();
    if (controller.signal.aborted) return;
    if (client.state.name === "closed") return void (removeListener = client.onState(subscribe));
    const { signal, getToken, ...others } = options() ?? {};
    const abort = () => controller.abort(signal?.reason);
    removeListener = onAbort(signal, abort);
    if (signal?.aborted) abort();
    // The latest `getToken` is used: the one of an earlier render may belong to a user who has signed out.
    const getLatestToken = getToken && (() => (options()?.getToken ?? getToken)());
    // All other results appear in the channel's state.
    channel
      .subscribe({ ...others, getToken: getLatestToken, signal: controller.signal })
      .catch((error) => CLIENT_CLOSED.test(error?.kind) && subscribe());
  };
  subscribe();
  return () => {
    removeListener();
    controller.abort();
  };
}

/** Creates the store of a channel's subscription state. */
export function createChannelState(channel: AnyChannel | null): Store<ChannelState> {
  const start = (changed: () => void) => channel?.onState(changed) ?? nothing;
  return createStore(() => channel?.state ?? UNSUBSCRIBED, start, UNSUBSCRIBED, channel?.environment);
}

/** The state on a rendering server, and in the page until it is hydrated: about to connect. */
const CONNECTING: State = { name: "connecting", attempt: 0 };
const UNSUBSCRIBED: ChannelState = { name: "unsubscribed" };
/** The kinds of error that a closed client causes. */
const CLIENT_CLOSED = /^(closed|gave_up)$/;
const connectionsOf = /* @__PURE__ */ new WeakMap<AnyClient, Store<void>>();
