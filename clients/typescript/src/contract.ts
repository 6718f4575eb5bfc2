// The types of an application for the compiler: what its channels carry, its requests, and its client
// requests. It contains types only. `hauyna types` generates such a contract from a Rust application.

import type { RetryTerms } from "./conversions.js";

/**
 * The contract of an application. A part that is left out accepts anything.
 *
 * ```ts
 * interface Chat {
 *   requests: { rename: { data: { name: string }; reply: { name: string } } };
 *   clientRequests: { confirm: { data: { question: string }; reply: { choice: "yes" | "no" } } };
 *   messages: { welcome: { motd: string } };
 *   channels: { "room:{id}": { message: string; renamed: { name: string } } };
 *   clientEvents: { "room:{id}": { cursor: { x: number; y: number }; typing: undefined } };
 * }
 * ```
 */
export interface Contract {
  /** The application's requests by name: their fields, and the result of their handler. */
  requests?: object;
  /** The client requests by name: what the server asks this client. */
  clientRequests?: object;
  /**
   * The application's messages to this client outside of channels, by `type`, and the contents of `private`,
   * `group` and `broadcast`.
   */
  messages?: object;
  /**
   * The messages of channels, by the pattern of the channel name: `{name}` matches one part, `{*name}` the
   * rest.
   */
  channels?: object;
  /** The client events of channels, by the pattern of the channel name: the data of each type. */
  clientEvents?: object;
}

/** The fields of a message. */
export type Fields = Record<string, unknown>;

type Part<T, K extends keyof Contract, Else> = T extends { [key in K]: infer P } ? P : Else;
type Open = Record<string, { data: object; reply: unknown }>;

/** The names of the application's requests. */
export type RequestName<T> = keyof Part<T, "requests", Open> & string;
/** The fields of a request. */
export type RequestData<T, N extends RequestName<T>> = Of<Part<T, "requests", Open>[N], "data", object>;
/** The result of a request. */
export type RequestReply<T, N extends RequestName<T>> = Of<Part<T, "requests", Open>[N], "reply", unknown>;
/** The names of the client requests. */
export type ClientRequestName<T> = keyof Part<T, "clientRequests", Open> & string;
/** The data of a client request. */
export type ClientRequestData<T, N extends ClientRequestName<T>> = T extends { clientRequests: infer P }
  ? Of<P[N & keyof P], "data", unknown>
  : unknown;
/** The answer to a client request. */
export type ClientRequestReply<T, N extends ClientRequestName<T>> = Of<Part<T, "clientRequests", Open>[N], "reply", unknown>;

type Of<P, K extends "data" | "reply", Else> = P extends { [key in K]: infer V } ? V : Else;

/**
 * The messages to this client outside of channels. The contract may declare the contents of `private`,
 * `group` and `broadcast`.
 */
export type ClientMessages<T> = { [Type in keyof Direct]: Carrying<Direct[Type], Part<T, "messages", object>, Type> } & Omit<
  Part<T, "messages", Record<string, Fields>>,
  keyof Direct
>;

type Carrying<Message, Messages, Type extends PropertyKey> = Message extends { message: unknown }
  ? Messages extends { [key in Type]: infer Content }
    ? Omit<Message, "message"> & { message: Content }
    : Message
  : Message;

/** The messages to a client that the protocol defines. */
export interface Direct {
  private: { from?: string; message: unknown; timestamp: number; offset?: number };
  group: { from?: string; room: string; message: unknown; timestamp: number; offset?: number };
  broadcast: { from?: string; message: unknown; timestamp: number; offset?: number };
  connection_state: { user: string; state: string; timestamp: number };
  retry_policy: RetryTerms;
}

/** The messages of a channel that no contract declares. */
export type AnyContent = { message: unknown } & Record<string, unknown>;

/** The client events of a channel that no contract declares. */
export type AnyEvents = Record<string, unknown>;

/** The messages of the channel of this name, by the patterns of the contract. */
export type ChannelOf<T, Name extends string> = T extends { channels: infer C } ? ByPattern<C, Name, AnyContent> : AnyContent;

/** The client events of the channel of this name, by the patterns of the contract. */
export type ClientEventsOf<T, Name extends string> = T extends { clientEvents: infer E } ? ByPattern<E, Name, AnyEvents> : AnyEvents;

/**
 * The name, if a pattern of the contract matches it or the contract declares no channels. A name that is
 * known only at run time always matches.
 */
export type ChannelName<T, Name extends string> = T extends { channels: infer C }
  ? string extends Name
    ? Name
    : [ByPattern<C, Name, never>] extends [never]
      ? never
      : Name
  : Name;

type ByPattern<C, Name extends string, Else> = {
  [P in keyof C & string]: Name extends NameOf<P> ? C[P] : never;
}[keyof C & string] extends infer Found
  ? [Found] extends [never]
    ? Else
    : Found
  : never;

type NameOf<Pattern extends string> = Pattern extends `${infer Before}{${string}}${infer After}`
  ? `${Before}${string}${NameOf<After>}`
  : Pattern;
