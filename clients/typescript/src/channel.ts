// One channel, as an application sees it. What is behind it is subscription.ts.

import type { AnyContent, AnyEvents, Fields } from "./contract.js";
import type { Environment } from "./environment.js";
import type { HauynaError } from "./error.js";
import type { Unsubscribe } from "./listeners.js";
import type { RequestOptions } from "./outbox.js";
import type { Presence } from "./presence.js";
import type { ChannelEvent, Position, RecoveryReason } from "./protocol.js";
import type { AbortSignalLike } from "./standard.js";

/** A message of a channel, as its listeners get it. */
export interface Delivered {
  readonly channel: string;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number;
  /** Its number, where the channel numbers its publications. */
  readonly offset?: number;
}

/** The content of what a channel of the type `C` carries. */
export type ContentOf<C> = C extends { message: infer Content } ? Content : unknown;

/** What somebody has published. */
export interface Publication<Content> extends Delivered {
  readonly content: Content;
  /** Who has; nobody where it was the application itself. */
  readonly user?: string;
}

/** What the listeners of `Event` get in a channel of the type `C`. */
export type MessageOf<C, Event> = Event extends "message"
  ? Publication<ContentOf<C>>
  : Event extends "channel_event"
    ? ChannelEvent
    : Event extends keyof C
      ? (unknown extends C[Event] ? Fields : C[Event]) & Delivered & { readonly type: Event }
      : never;

/** Messages of a channel may be missing. */
export interface Gap {
  readonly channel: string;
  /** `not_recoverable`: the channel keeps no history, and there was a reconnect. */
  readonly reason: RecoveryReason | "not_recoverable";
  /** The last position before it, and the one from which the channel goes on; where they are known. */
  readonly from: Position | undefined;
  readonly to: Position | undefined;
  /** How many messages, where that is known. */
  readonly missed: number | undefined;
}

/** How this client stands to a channel. */
export interface ChannelState {
  readonly name: "unsubscribed" | "subscribing" | "subscribed";
  /** Why a subscription has ended that was not given up. */
  readonly error?: HauynaError;
  /** After a reconnect: what lies between these two was missed, and follows now. */
  readonly recovered?: { readonly from: Position; readonly to: Position };
}

/** What goes with a subscription. */
export interface SubscribeOptions {
  /** What this connection says about itself in the channel. */
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** Gives a token that allows this channel, before each time that it is subscribed to. */
  readonly getToken?: (() => string | Promise<string>) | undefined;
  /** Begins after this position, which an earlier page or process has seen. */
  readonly since?: Position | undefined;
  /** Ends this share of the subscription, also before the server has answered: the promise is rejected with its reason. */
  readonly signal?: AbortSignalLike | undefined;
}

/** A share of a subscription, as of the moment when it began. */
export interface Subscribed {
  readonly position: Position | undefined;
  /** The channel keeps a history. */
  readonly recoverable: boolean;
  /** Ends this share. The subscription ends with the last one. */
  unsubscribe(): Promise<void>;
}

/** A client event: what another client of this channel has sent past the history. */
export interface ClientEvent<Type extends string = string, Data = unknown> {
  readonly channel: string;
  readonly type: Type;
  readonly user: string;
  readonly data: Data;
}

/** How to publish. */
export interface PublishOptions extends RequestOptions {
  /** Makes a repetition harmless: at most 128 bytes. Without one, the client makes one up. */
  readonly key?: string | undefined;
  /** False: this connection does not get the message live, since its page shows it already. Default: true. */
  readonly echo?: boolean | undefined;
}

/** Where a publication stands; undefined in a channel that does not number them. */
export type Published = Position | undefined;

/** Which publications of the past. */
export interface HistoryRange {
  /** Those after this position, or before it with `reverse`. */
  readonly since?: Position | undefined;
  /** Those before this position, the newest first: the page that a reader sees next who scrolls back. Not with `since`. */
  readonly before?: Position | undefined;
  readonly limit?: number | undefined;
  /** The newest first. */
  readonly reverse?: boolean | undefined;
  /** Ends the waiting: the promise is rejected with its reason. */
  readonly signal?: AbortSignalLike | undefined;
}

/** A message of the past: a publication, or of a type of the application's own. */
export type HistoryMessage<C> =
  | (Publication<ContentOf<C>> & { readonly type: "message" })
  | { [Event in Exclude<keyof C & string, "message">]: MessageOf<C, Event> }[Exclude<keyof C & string, "message">];

/** One page of the past. Messages may be of every type that the channel carries. */
export interface HistoryPage<C> {
  readonly messages: readonly HistoryMessage<C>[];
  /** The end of the stream. */
  readonly position: Position;
  /** The offset of the oldest message that the server keeps; where it is not 1, older ones are gone. */
  readonly oldest: number;
  /** The position of the last message of this page: the next page starts there. */
  readonly last: Position | undefined;
}

/** One channel of one client; the same for the same name. */
export interface Channel<C = AnyContent, E = AnyEvents> {
  readonly name: string;
  readonly state: ChannelState;
  /** What this client has seen; undefined in a channel without history. */
  readonly position: Position | undefined;
  /** Who is present, where the channel shows it. */
  readonly presence: Presence;
  /** Time, chance and network, as the client's. */
  readonly environment: Environment;
  /** Listens to `message`, the publications, or to a type of the application's own. */
  on<Event extends (keyof C & string) | "message" | "channel_event">(
    event: Event,
    listener: (message: MessageOf<C, Event>) => void,
  ): Unsubscribe;
  /** Listens to the client events of others, see {@link send}. */
  onEvent<Type extends keyof E & string>(type: Type, listener: (event: ClientEvent<Type, E[Type]>) => void): Unsubscribe;
  /** Listens to what may be missing; never called where nothing can be. */
  onGap(listener: (gap: Gap) => void): Unsubscribe;
  onState(listener: (state: ChannelState) => void): Unsubscribe;
  /**
   * Subscribes, now and after every reconnect. Resolves when the server says so; fails where it refuses, or where the client
   * is closed before, and then leaves nothing behind. Each call is a
   * share of one subscription: several components of a page may use a channel without knowing of each other.
   */
  subscribe(options?: SubscribeOptions): Promise<Subscribed>;
  /** Ends the subscription for all who share it. */
  unsubscribe(): Promise<void>;
  /** Publishes. Sent again after a reconnect, with the same key, where the answer was lost. */
  publish(content: ContentOf<C>, options?: PublishOptions): Promise<Published>;
  /**
   * Sends a client event to the other subscribers, past history and recovery: a cursor, a hint that somebody types. Nothing
   * is answered, and nothing is sent without a subscription. Of more than the channel takes a second, the latest of each
   * type is sent.
   */
  send<Type extends keyof E & string>(type: Type, ...[data]: undefined extends E[Type] ? [data?: E[Type]] : [data: E[Type]]): void;
  history(range?: HistoryRange): Promise<HistoryPage<C>>;
  /** The past from here, or from `before`, to its beginning: the newest first, `limit` messages a request. */
  older(range?: Pick<HistoryRange, "before" | "limit" | "signal">): AsyncGenerator<HistoryMessage<C>, void, undefined>;
  /**
   * The publications from now on, for `for await`. Ends with the subscription, and when the client is closed. Fails with the
   * error where it was refused or the client was not closed by the application, with `overflow` where the loop falls more than
   * 10,000 messages behind.
   */
  messages(options?: { readonly signal?: AbortSignalLike | undefined }): AsyncGenerator<Publication<ContentOf<C>>, void, undefined>;
}

/** A channel of any contract. */
export type AnyChannel = Channel<any, any>;
