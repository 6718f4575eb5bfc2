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
  const room: AnyChannel | null = channel;
  const timers = new Map<string, Unsubscribe>();
  let state: TypingState = { users: [] };
  /** Whether the last announcement was that this user types, and whether it was recent. */
  let isTyping = false;
  let isFresh = false;
  let cancel = nothing;
  const start = (changed: () => void) => {
    if (!room) return nothing;
    const set = (user: string | undefined, isTyping: boolean) => {
      if (user === undefined || user === client.user || (!isTyping && !timers.has(user))) return;
      timers.get(user)?.();
      if (isTyping) timers.set(user, environment.after(timeout, () => set(user, false)));
      else timers.delete(user);
      if (timers.size === state.users.length) return;
      state = { users: [...timers.keys()] };
      changed();
    };
    const off = endAll(
      room.onEvent(event, ({ user, data }) => set(user, data !== false)),
      room.on("message", ({ user }) => set(user, false)),
      room.presence.on("leave", ({ user }) => set(user, false)),
    );
    return () => {
      off();
      cancel();
      isTyping = isFresh = false;
      timers.forEach((stop) => stop());
      timers.clear();
      state = { users: [] };
    };
  };
  const tell = (now: boolean) => {
    cancel();
    isTyping = isFresh = now;
    // A timer decides, because somebody may set the clock.
    if (now) cancel = environment.after(timeout / 2, () => (isFresh = false));
    room?.send(event, now);
  };
  return {
    ...createStore(() => state, start, state, environment),
    startTyping() {
      if (!isFresh) tell(true);
    },
    stopTyping() {
      if (isTyping) tell(false);
    },
  };
}
