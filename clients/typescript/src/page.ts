// The client in one file, for pages without a bundler: as index.ts, without MessagePack, which has a file of
// its own, and without the table of close codes.

export { type AnyClient, Client, type ClientOptions, type ConnectOptions, type ClientRequestHandler } from "./client.js";
export type {
  AnyChannel,
  Channel,
  ChannelState,
  ClientEvent,
  ContentOf,
  Delivered,
  Gap,
  HistoryPage,
  HistoryRange,
  MessageOf,
  HistoryMessage,
  Publication,
  Published,
  PublishOptions,
  Subscribed,
  SubscribeOptions,
} from "./channel.js";
export { type Codec, json } from "./codec.js";
export type { State, TokenContext } from "./connection.js";
export type * from "./contract.js";
export { type Environment, type Signal, defaultEnvironment } from "./environment.js";
export { type ErrorKind, HauynaError, ServerError } from "./error.js";
export type { RetryTerms, SessionInfo } from "./conversions.js";
export type { Unsubscribe } from "./listeners.js";
export { type Level, type Logger, consoleLogger } from "./logger.js";
export type { OutboxLimits, RequestOptions } from "./outbox.js";
export type { Device, Presence, PresenceEvents, Member } from "./presence.js";
export {
  type ChannelEvent,
  type ErrorType,
  type Heartbeat,
  type Position,
  type RecoveryReason,
  shouldReconnect,
} from "./protocol.js";
export type { AbortSignalLike, UrlLike } from "./runtime-types.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
