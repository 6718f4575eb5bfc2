// What a component keeps alive while it is there: the connection of a client, and its share of a channel's subscription.
// And how both are.

import type { AnyChannel, AnyClient, AnyEvents, Channel, ChannelName, ChannelState, Client, Contract, Unsubscribe, State, SubscribeOptions } from "hauyna";
import type { ChannelNamed } from "./named.js";
import { FRAME, type Store, createStore, endAll, nothing } from "./store.js";
import { onAbort } from "./standard.js";

/**
 * Connects a client, and closes it when the last holder has let go. A client that was connected before is left to the code that
 * has connected it.
 */
export function holdConnection(client: AnyClient): Unsubscribe {
  let held = connections.get(client);
  if (!held) {
    const start = () => {
      if (client.state.name !== "closed") return nothing;
      client.connect().catch(nothing);
      return () => client.close();
    };
    held = createStore(nothing, start, undefined, client.environment);
    connections.set(client, held);
  }
  return held.subscribe(nothing);
}

/**
 * How the connection of a client is. With `isHeld`, somebody is about to connect the client: one that is closed is
 * `connecting` until it has been listened to for a frame, so that no page begins with "not connected".
 */
export function createConnectionState(client: AnyClient, isHeld = false): Store<State> {
  let isAwaited = isHeld;
  const get = () => (isAwaited && client.state.name === "closed" ? CONNECTING : client.state);
  const start = (changed: () => void) => {
    const settle = () => {
      isAwaited = false;
      changed();
    };
    return endAll(client.onState(changed), isAwaited ? client.environment.after(FRAME, settle) : nothing);
  };
  return createStore(get, start, CONNECTING, client.environment);
}

/**
 * A channel. Its subscription has a share of this store while somebody listens to the store, however often the client is
 * closed and connects again. `options` are asked for when the subscription begins, and for each token.
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
    () => (channel ? share(client, channel, options) : nothing),
    channel,
    client.environment,
  );
}

/** Takes a share of a channel's subscription as soon as the client is not closed. */
function share(client: AnyClient, channel: AnyChannel, options: () => SubscribeOptions | undefined): Unsubscribe {
  const own = new AbortController();
  let off = nothing;
  // A closed client takes no subscription, and keeps those that it has, but none that waits for the server.
  const ask = () => {
    off();
    if (own.signal.aborted) return;
    if (client.state.name === "closed") return void (off = client.onState(ask));
    const { signal, getToken, ...others } = options() ?? {};
    const abort = () => own.abort(signal?.reason);
    off = onAbort(signal, abort);
    if (signal?.aborted) abort();
    // The newest source of tokens: that of the render in which this began may know nothing of who is logged in now.
    const newest = getToken && (() => (options()?.getToken ?? getToken)());
    // What else comes of it is the state of the channel.
    channel.subscribe({ ...others, getToken: newest, signal: own.signal }).catch((error) => ENDED.test(error?.kind) && ask());
  };
  ask();
  return () => {
    off();
    own.abort();
  };
}

/** How this client stands to a channel. */
export function createChannelState(channel: AnyChannel | null): Store<ChannelState> {
  const start = (changed: () => void) => channel?.onState(changed) ?? nothing;
  return createStore(() => channel?.state ?? UNSUBSCRIBED, start, UNSUBSCRIBED, channel?.environment);
}

/** What a server renders, and the page until it is hydrated: it is about to connect. */
const CONNECTING: State = { name: "connecting", attempt: 0 };
const UNSUBSCRIBED: ChannelState = { name: "unsubscribed" };
/** The client was closed. */
const ENDED = /^(closed|gave_up)$/;
const connections = /* @__PURE__ */ new WeakMap<AnyClient, Store<void>>();
