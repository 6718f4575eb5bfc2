// Who is present in a channel, as one immutable value.

import type { AnyChannel, Member } from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";

/** Who is present in a channel. */
export interface PresenceState {
  /** By user. Empty where the channel has grown too large for a list. */
  readonly users: ReadonlyMap<string, Member>;
  /** How many users are present, listed or not. */
  readonly count: number;
  /** The users are known, and not only their number. */
  readonly isListed: boolean;
}

/** Who is present in a channel, while it is subscribed to. */
export function createPresence(channel: AnyChannel | null): Store<PresenceState> {
  let state = NOBODY;
  let isStale = false;
  const get = () => {
    if (isStale && channel) {
      const { users, count, isListed } = channel.presence;
      state = { users, count, isListed };
      isStale = false;
    }
    return state;
  };
  const start = (changed: () => void) => {
    if (!channel) return nothing;
    const change = () => {
      isStale = true;
      changed();
    };
    isStale = true;
    return endAll(channel.presence.on("change", change), channel.onState(change));
  };
  return createStore(get, start, NOBODY, channel?.environment);
}

const NOBODY: PresenceState = { users: new Map(), count: 0, isListed: false };
