// The members of a channel as one immutable value.

import type { AnyChannel, Member } from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";

/** The members of a channel. */
export interface PresenceState {
  /** The members by user. Empty if the channel has become too large for a list. */
  readonly users: ReadonlyMap<string, Member>;
  /** The number of users that are present, whether they are listed or not. */
  readonly count: number;
  /** Whether the members are known, and not only their number. */
  readonly isListed: boolean;
}

/** Creates the store of a channel's members. It needs a subscription to the channel. */
export function createPresence(channel: AnyChannel | null): Store<PresenceState> {
  let state = NO_MEMBERS;
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
    const markChanged = () => {
      isStale = true;
      changed();
    };
    isStale = true;
    return endAll(channel.presence.on("change", markChanged), channel.onState(markChanged));
  };
  return createStore(get, start, NO_MEMBERS, channel?.environment);
}

const NO_MEMBERS: PresenceState = { users: new Map(), count: 0, isListed: false };
