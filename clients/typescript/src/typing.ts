// Who is typing in a channel, by client events: they say so while they type, and a user that is not heard of any more has
// stopped.

import type { AnyChannel, AnyClient, Channel, Unsubscribe } from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";

/** How typing is told. */
export interface TypingOptions<Event extends string = string> {
  /** The type of the client event, whose data is true or false. Default: `typing`. */
  readonly event?: Event | undefined;
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

/** The client events of a channel that may tell of typing: their data is true or false. */
export type TypingEvent<E> = { [Type in keyof E & string]: boolean extends E[Type] ? Type : never }[keyof E & string];

/** The options, which have to name the event where `typing` is none of the channel's. */
export type TypingArguments<E> = "typing" extends TypingEvent<E>
  ? [options?: TypingOptions<TypingEvent<E>>]
  : [options: TypingOptions<TypingEvent<E>> & { readonly event: TypingEvent<E> }];

/** Who types in a channel, and what tells the others that this user does. */
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
  /** The others were told last that this user types; and that was not long ago. */
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
    // Not by a clock, which somebody may set.
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
