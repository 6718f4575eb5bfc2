// What a component keeps alive while it is there: the connection of a client, and its share of a channel's subscription.
// And how both are.

import type { ChannelState, Off, State, SubscribeOptions } from "hauyna";
import type { AnyChannel, AnyClient } from "./face.js";
import { type Store, createStore, nothing } from "./store.js";

/**
 * Connects a client, and closes it when the last holder has let go. A client that was connected before is left to whoever
 * has connected it.
 */
export function holdConnection(client: AnyClient): Off {
  let held = connections.get(client);
  if (!held) {
    held = createStore(nothing, () => {
      if (client.state.name !== "closed") return nothing;
      client.connect().catch(nothing);
      return () => client.close();
    });
    connections.set(client, held);
  }
  return held.subscribe(nothing);
}

/** How the connection of a client is. */
export function createConnectionState(client: AnyClient): Store<State> {
  return createStore(() => client.state, (changed) => client.onState(changed), DISCONNECTED);
}

/**
 * A channel. Its subscription has a share of this store while somebody listens to the store, also after the client was
 * closed and connects again. `options` are asked for when the subscription begins.
 */
export function createChannel(
  client: AnyClient,
  name: string | null,
  options: () => SubscribeOptions | undefined = nothing as () => undefined,
): Store<AnyChannel | null> {
  const channel = name === null ? null : (client.channel(name) as AnyChannel);
  return createStore(
    () => channel,
    () => {
      if (!channel) return nothing;
      const share = new AbortController();
      shares.set(channel, (shares.get(channel) ?? 0) + 1);
      let isAsked = false;
      const ask = () => {
        if (client.state.name === "closed") isAsked = false;
        else if (!isAsked) {
          isAsked = true;
          // What comes of it is the state of the channel.
          channel.subscribe({ ...options(), signal: share.signal }).catch(nothing);
        }
      };
      const off = client.onState(ask);
      ask();
      return () => {
        off();
        share.abort();
        const left = (shares.get(channel) ?? 1) - 1;
        shares.set(channel, left);
        if (left === 0) channel.unsubscribe().catch(nothing);
      };
    },
  );
}

/** How this client stands to a channel. */
export function createChannelState(channel: AnyChannel | null): Store<ChannelState> {
  return createStore(() => channel?.state ?? UNSUBSCRIBED, (changed) => channel?.onState(changed) ?? nothing, UNSUBSCRIBED);
}

const DISCONNECTED: State = { name: "closed", reason: "not connected yet" };
const UNSUBSCRIBED: ChannelState = { name: "unsubscribed" };
/** How many components have a share of a channel, until the core counts them. */
const shares = /* @__PURE__ */ new WeakMap<AnyChannel, number>();
const connections = /* @__PURE__ */ new WeakMap<AnyClient, Store<void>>();
