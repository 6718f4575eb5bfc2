// The types that the bindings for React, Vue and Svelte share.

export type {
  AnyChannel,
  AnyClient,
  AnyContent,
  AnyEvents,
  Channel,
  ChannelState,
  Client,
  ClientEvent,
  ContentOf,
  Contract,
  MessageOf,
  Unsubscribe,
  RequestData,
  RequestName,
  RequestOptions,
  RequestReply,
  State,
  SubscribeOptions,
} from "hauyna";
export type { ChannelNamed, EventData, Known } from "./contract-lookup.js";
export type * from "./stores.js";
