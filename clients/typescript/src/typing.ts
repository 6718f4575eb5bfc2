// Who is typing in a channel, by client events: they say so while they type, and whoever is not heard of any more has
// stopped.

import type { AnyChannel, AnyClient } from "hauyna";
import { type Store, type Timer, createStore, endAll, nothing } from "./store.js";

/** How typing is told. */
export interface TypingOptions {
  /** The type of the client event, whose data is true or false. Default: `typing`. */
  readonly event?: string | undefined;
  /** Milliseconds after which somebody has stopped who is not heard of. Default: 5 s. */
  readonly timeout?: number | undefined;
}

/** Who types. */
export interface TypingState {
  /** The users who type now, in the order in which they began; this client's own is not among them. */
  readonly users: readonly string[];
}

/** Tells the others. */
export interface TypingActions {
  /** Says that this user types: call it with each change of the text, it sends when it has to. */
  startTyping(): void;
  /** Says that this user has stopped, as after sending. */
  stopTyping(): void;
}

/** Who types in a channel, and what tells the others that this user does. */
export function createTyping(
  client: AnyClient,
  channel: AnyChannel | null,
  { event = "typing", timeout = 5000 }: TypingOptions = {},
): Store<TypingState> & TypingActions {
  const timers = new Map<string, Timer>();
  let state: TypingState = { users: [] };
  /** When the others were told. */
  let told = -Infinity;
  const start = (changed: () => void) => {
    if (!channel) return nothing;
    const set = (user: string | undefined, isTyping: boolean) => {
      if (user === undefined || user === client.user || (!isTyping && !timers.has(user))) return;
      clearTimeout(timers.get(user));
      if (isTyping) timers.set(user, setTimeout(set, timeout, user, false));
      else timers.delete(user);
      if (timers.size === state.users.length) return;
      state = { users: [...timers.keys()] };
      changed();
    };
    const off = endAll(
      channel.onEvent(event, ({ user, data }) => set(user, data !== false)),
      channel.on("message", ({ user }) => set(user, false)),
      channel.presence.on("leave", ({ user }) => set(user, false)),
    );
    return () => {
      off();
      timers.forEach(clearTimeout);
      timers.clear();
      state = { users: [] };
    };
  };
  const tell = (isTyping: boolean) => {
    told = isTyping ? performance.now() : -Infinity;
    channel?.send(event, isTyping);
  };
  return {
    ...createStore(() => state, start),
    startTyping() {
      if (performance.now() - told > timeout / 2) tell(true);
    },
    stopTyping() {
      if (told > 0) tell(false);
    },
  };
}
