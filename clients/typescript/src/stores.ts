// The stores of the bindings for React, Vue and Svelte, for the authors of other bindings.

export { type RequestActions, type RequestState, createRequest } from "./request-state.js";
export { createChannel, createChannelState, createConnectionState, holdConnection } from "./connection-stores.js";
export {
  type ListedGap,
  type ListedMessage,
  type MessageActions,
  type MessagesOptions,
  type MessagesState,
  createMessageList,
} from "./message-list.js";
export { type PresenceState, createPresence } from "./presence-state.js";
export { type Clock, type Store, createStore } from "./store.js";
export { type TypingActions, type TypingArguments, type TypingEvent, type TypingOptions, type TypingState, createTyping } from "./typing.js";
