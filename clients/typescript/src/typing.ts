// Who is typing in a channel. Clients announce it by client events while their users type; a user who was not
// announced for a while has stopped.

import type { AnyChannel, AnyClient, Channel, Unsubscribe } from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";

/** The options of a typing indicator. */
export interface TypingOptions<Event extends string = string> {
  /** The type of the client event, whose data is true or false. Default: `typing`. */
  readonly event?: Event | undefined;
  /** Milliseconds after the last announcement when a user counts as stopped. Default: 5 s. */
  readonly timeout?: number | undefined;
}

/** The users who are typing. */
export interface TypingState {
  /** The users who are typing, in the order in which they started, without this client's user. */
  readonly users: readonly string[];
}

/** The functions that announce this user's typing. */
export interface TypingActions {
  /**
   * Announces that this user is typing. Call it with each change of the text; it sends an event only when one
   * is due.
   */
  startTyping(): void;
  /** Announces that this user has stopped, for example after sending the text. */
  stopTyping(): void;
}

/** The client events of a channel that can announce typing: their data is true or false. */
export type TypingEvent<E> = { [Type in keyof E & string]: boolean extends E[Type] ? Type : never }[keyof E & string];

/** The options, which must name the event if the channel has no `typing` event. */
export type TypingArguments<E> = "typing" extends TypingEvent<E>
  ? [options?: TypingOptions<TypingEvent<E>>]
  : [options: TypingOptions<TypingEvent<E>> & { readonly event: TypingEvent<E> }];

/**
 * Creates the store of the users who are typing in a channel, with functions that announce this user's
 * typing.
 */
export function createTyping<E>(
  client: AnyClient,
  channel: Channel<any, E> | null,
  ...given: TypingArguments<E>
): Store<TypingState> & TypingActions {
  const { event = "typing", timeout = 5000 }: TypingOptions = given[0] ?? {};
  const { environment } = client;
  const anyChannel: AnyChannel | null = channel;
  const timers = new Map<string, Unsubscribe>();
  let state: TypingState = { users: [] };
  /** Whether the last announcement was that this user types, and whether it was recent. */
  let isTyping = false;
  let isFresh = false;
  let cancel = nothing;
  const start = (changed: () => void) => {
    if (!anyChannel) return nothing;
    const setTyping = (user: string | undefined, isTyping: boolean) => {
      if (user === undefined || user === client.user || (!isTyping && !timers.has(user))) return;
      timers.get(user)?.();
      if (isTyping) timers.set(user, environment.after(timeout, () => setTyping(user, false)));
      else timers.delete(user);
      if (timers.size === state.users.length) return;
      state = { users: [...timers.keys()] };
      changed();
    };
    const removeListeners = endAll(
      anyChannel.onEvent(event, ({ user, data }) => setTyping(user, data !== false)),
      anyChannel.on("message", ({ user }) => setTyping(user, false)),
      anyChannel.presence.on("leave", ({ user }) => setTyping(user, false)),
    );
    return () => {
      removeListeners();
      cancel();
      isTyping = isFresh = false;
      timers.forEach((stop) => stop());
      timers.clear();
      state = { users: [] };
    };
  };
  const announce = (isTypingNow: boolean) => {
    cancel();
    isTyping = isFresh = isTypingNow;
    // A timer decides, because somebody may set the clock.
    if (isTypingNow) cancel = environment.after(timeout / 2, () => (isFresh = false));
    anyChannel?.send(event, isTypingNow);
  };
  return {
    ...createStore(() => state, start, state, environment),
    startTyping() {
      if (!isFresh) announce(true);
    },
    stopTyping() {
      if (isTyping) announce(false);
    },
  };
}
