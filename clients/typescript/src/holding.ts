// What a component keeps alive while it is there: the connection of a client, and its share of a channel's subscription.
// And how both are.

import type { AnyChannel, AnyClient, ChannelState, Off, State, SubscribeOptions } from "hauyna";
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
  return createStore(() => client.state, (changed) => client.onState(changed), CONNECTING);
}

/**
 * A channel. Its subscription has a share of this store while somebody listens to the store, however often the client is
 * closed and connects again. `options` are asked for when the subscription begins.
 */
export function createChannel(
  client: AnyClient,
  name: string | null,
  options: () => SubscribeOptions | undefined = nothing as () => undefined,
): Store<AnyChannel | null> {
  const channel: AnyChannel | null = name === null ? null : client.channel(name);
  return createStore(
    () => channel,
    () => {
      if (!channel) return nothing;
      const share = new AbortController();
      let off = nothing;
      // A closed client takes no subscription, and keeps those that it has, but none that waits for the server.
      const ask = () => {
        off();
        off = nothing;
        if (share.signal.aborted) return;
        if (client.state.name === "closed") off = client.onState(ask);
        // What else comes of it is the state of the channel.
        else channel.subscribe({ ...options(), signal: share.signal }).catch(({ kind }) => ENDED.test(kind) && ask());
      };
      ask();
      return () => {
        off();
        share.abort();
      };
    },
  );
}

/** How this client stands to a channel. */
export function createChannelState(channel: AnyChannel | null): Store<ChannelState> {
  return createStore(() => channel?.state ?? UNSUBSCRIBED, (changed) => channel?.onState(changed) ?? nothing, UNSUBSCRIBED);
}

/** What a server renders, and the page until it is hydrated: it is about to connect. */
const CONNECTING: State = { name: "connecting", attempt: 0 };
const UNSUBSCRIBED: ChannelState = { name: "unsubscribed" };
/** The client was closed. */
const ENDED = /^(closed|gave_up)$/;
const connections = /* @__PURE__ */ new WeakMap<AnyClient, Store<void>>();
