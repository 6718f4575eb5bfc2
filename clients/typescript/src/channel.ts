// The interface of one channel, as applications use it. subscription.ts implements it.

import type { AnyContent, AnyEvents, Fields } from "./contract.js";
import type { Environment } from "./environment.js";
import type { HauynaError } from "./error.js";
import type { Unsubscribe } from "./listeners.js";
import type { RequestOptions } from "./outbox.js";
import type { Presence } from "./presence.js";
import type { ChannelEvent, Position, RecoveryReason } from "./protocol.js";
import type { AbortSignalLike } from "./runtime-types.js";

/** The fields that every message of a channel has. */
export interface Delivered {
  readonly channel: string;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
  /** The message's number, if the channel numbers its publications. */
  readonly offset?: number;
}

/** The content of the publications of a channel of type `C`. */
export type ContentOf<C> = C extends { message: infer Content } ? Content : unknown;

/** A publication, as listeners receive it. */
export interface Publication<Content> extends Delivered {
  readonly content: Content;
  /** The user who published it; undefined if the application published it. */
  readonly user?: string;
}

/** The message that the listeners of `Event` receive in a channel of type `C`. */
export type MessageOf<C, Event> = Event extends "message"
  ? Publication<ContentOf<C>>
  : Event extends "channel_event"
    ? ChannelEvent
    : Event extends keyof C
      ? (unknown extends C[Event] ? Fields : C[Event]) & Delivered & { readonly type: Event }
      : never;

/** Reports that messages of a channel may be missing. */
export interface Gap {
  readonly channel: string;
  /**
   * Why messages may be missing. `not_recoverable`: the channel keeps no history, and the client reconnected.
   */
  readonly reason: RecoveryReason | "not_recoverable";
  /**
   * The last position before the gap and the position after which the channel continues, if they are known.
   */
  readonly from: Position | undefined;
  readonly to: Position | undefined;
  /** How many messages are missing, if that is known. */
  readonly missed: number | undefined;
}

/** The state of this client's subscription to a channel. */
export interface ChannelState {
  readonly name: "unsubscribed" | "subscribing" | "subscribed";
  /** Why the subscription ended, unless the application ended it. */
  readonly error?: HauynaError;
  /** After a reconnect: the messages between these two positions were missed, and are delivered next. */
  readonly recovered?: { readonly from: Position; readonly to: Position };
}

/** The options of a subscription. */
export interface SubscribeOptions {
  /** Metadata of this connection, shown in the channel's presence. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** Returns a token that allows this channel. Called before each subscribe request. */
  readonly getToken?: (() => string | Promise<string>) | undefined;
  /** Starts after this position, which an earlier page or process has seen. */
  readonly since?: Position | undefined;
  /**
   * Ends this share of the subscription, also before the server has answered: the promise is then rejected
   * with the signal's reason.
   */
  readonly signal?: AbortSignalLike | undefined;
}

/** One share of a subscription, with the position at which the share began. */
export interface Subscribed {
  readonly position: Position | undefined;
  /** Whether the channel keeps a history. */
  readonly recoverable: boolean;
  /** Ends this share. The subscription ends with its last share. */
  unsubscribe(): Promise<void>;
}

/** A client event: a message that another client sent to this channel without history. */
export interface ClientEvent<Type extends string = string, Data = unknown> {
  readonly channel: string;
  readonly type: Type;
  readonly user: string;
  readonly data: Data;
}

/** The options of a publication. */
export interface PublishOptions extends RequestOptions {
  /**
   * Lets the server recognise a repeated publication, so that it publishes once: at most 128 bytes. The
   * client generates a key if there is none.
   */
  readonly key?: string | undefined;
  /**
   * Whether this connection receives the message live as well. Use false if the page shows the message
   * already. Default: true.
   */
  readonly echo?: boolean | undefined;
}

/** The position of a publication; undefined in a channel that does not number its publications. */
export type Published = Position | undefined;

/** Selects publications from the history. */
export interface HistoryRange {
  /** Selects the publications after this position, or before it with `reverse`. */
  readonly since?: Position | undefined;
  /**
   * Selects the publications before this position, newest first, as for a reader who scrolls back. It
   * excludes `since`.
   */
  readonly before?: Position | undefined;
  readonly limit?: number | undefined;
  /** Whether the newest publication comes first. */
  readonly reverse?: boolean | undefined;
  /** Stops waiting for the answer: the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignalLike | undefined;
}

/** A message from the history: a publication, or a message of one of the application's own types. */
export type HistoryMessage<C> =
  | (Publication<ContentOf<C>> & { readonly type: "message" })
  | { [Event in Exclude<keyof C & string, "message">]: MessageOf<C, Event> }[Exclude<keyof C & string, "message">];

/** One page of the history. It may contain messages of every type that the channel carries. */
export interface HistoryPage<C> {
  readonly messages: readonly HistoryMessage<C>[];
  /** The position of the newest publication in the stream. */
  readonly position: Position;
  /**
   * The offset of the oldest message that the server keeps. If it is not 1, the server has dropped older
   * messages.
   */
  readonly oldest: number;
  /** The position of the last message of this page, at which the next page starts. */
  readonly last: Position | undefined;
}

/** One channel of one client. The same name gives the same object. */
export interface Channel<C = AnyContent, E = AnyEvents> {
  readonly name: string;
  readonly state: ChannelState;
  /**
   * The position of the last message that this client has received; undefined in a channel without history.
   */
  readonly position: Position | undefined;
  /** The members of the channel, if it has presence. */
  readonly presence: Presence;
  /** The environment of the client: time, randomness and network. */
  readonly environment: Environment;
  /**
   * Calls `listener` for every message of this type: `message` for publications, or one of the application's
   * own types.
   */
  on<Event extends (keyof C & string) | "message" | "channel_event">(
    event: Event,
    listener: (message: MessageOf<C, Event>) => void,
  ): Unsubscribe;
  /** Calls `listener` for the client events of this type that other clients {@link send}. */
  onEvent<Type extends keyof E & string>(type: Type, listener: (event: ClientEvent<Type, E[Type]>) => void): Unsubscribe;
  /** Calls `listener` when messages may be missing. */
  onGap(listener: (gap: Gap) => void): Unsubscribe;
  onState(listener: (state: ChannelState) => void): Unsubscribe;
  /**
   * Subscribes, now and after every reconnect. Resolves when the server confirms. Rejects if the server
   * refuses or the client is closed first; then this share does not exist. Each call adds one share to a
   * common subscription, so that several components of a page can use a channel independently.
   */
  subscribe(options?: SubscribeOptions): Promise<Subscribed>;
  /** Ends the subscription with all its shares. */
  unsubscribe(): Promise<void>;
  /**
   * Publishes a message. If the answer is lost, the client sends the message again after the reconnect, with
   * the same key.
   */
  publish(content: ContentOf<C>, options?: PublishOptions): Promise<Published>;
  /**
   * Sends a client event to the other subscribers, without history and recovery: a cursor position, a typing
   * indicator. The server does not answer. Without a subscription nothing is sent. If events exceed the
   * channel's rate, the client sends the latest one of each type.
   */
  send<Type extends keyof E & string>(type: Type, ...[data]: undefined extends E[Type] ? [data?: E[Type]] : [data: E[Type]]): void;
  history(range?: HistoryRange): Promise<HistoryPage<C>>;
  /**
   * Iterates over the history, newest first, from the end or from `before` back to the beginning. Each
   * request loads `limit` messages.
   */
  older(range?: Pick<HistoryRange, "before" | "limit" | "signal">): AsyncGenerator<HistoryMessage<C>, void, undefined>;
  /**
   * Iterates over the publications from now on. The iterator ends with the subscription, and when the
   * application closes the client. It throws the error of the subscription, or the error with which the
   * server ended the client, and `overflow` if the loop falls more than 10,000 messages behind.
   */
  messages(options?: { readonly signal?: AbortSignalLike | undefined }): AsyncGenerator<Publication<ContentOf<C>>, void, undefined>;
}

/** A channel of any contract. */
export type AnyChannel = Channel<any, any>;
