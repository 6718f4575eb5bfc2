// The types of an application, as a compiler sees them: what its channels carry, what it can be asked, what it asks.
// Types alone; `hauyna types` writes such a contract from a Rust application.

import type { RetryTerms } from "./face.js";

/**
 * What an application says and hears. Every part may be left out, and is then open to anything.
 *
 * ```ts
 * interface Chat {
 *   requests: { rename: { data: { name: string }; reply: { name: string } } };
 *   questions: { confirm: { data: { question: string }; reply: { choice: "yes" | "no" } } };
 *   messages: { welcome: { motd: string } };
 *   channels: { "room:{id}": { message: string; renamed: { name: string } } };
 *   clientEvents: { "room:{id}": { cursor: { x: number; y: number }; typing: undefined } };
 * }
 * ```
 */
export interface Contract {
  /** Application events by name: their fields, and what their handler returns. */
  requests?: object;
  /** What the server asks this client, by name. */
  questions?: object;
  /** The application's own messages to this client outside of channels, by their `type`; what `private`, `group` and `broadcast` carry. */
  messages?: object;
  /** What channels carry, by the pattern of their names: `{name}` is a part, `{*name}` the rest. */
  channels?: object;
  /** The client events of channels, by the pattern of their names: their data by type. */
  clientEvents?: object;
}

/** Fields of a message. */
export type Fields = Record<string, unknown>;

type Part<T, K extends keyof Contract, Else> = T extends { [key in K]: infer P } ? P : Else;
type Open = Record<string, { data: object; reply: unknown }>;

/** The names of what can be asked. */
export type RequestName<T> = keyof Part<T, "requests", Open> & string;
/** What goes with a request. */
export type RequestData<T, N extends RequestName<T>> = Of<Part<T, "requests", Open>[N], "data", object>;
/** What comes back. */
export type RequestReply<T, N extends RequestName<T>> = Of<Part<T, "requests", Open>[N], "reply", unknown>;
/** The names of what the server asks. */
export type QuestionName<T> = keyof Part<T, "questions", Open> & string;
/** What comes with a question. */
export type QuestionData<T, N extends QuestionName<T>> = T extends { questions: infer P }
  ? Of<P[N & keyof P], "data", unknown>
  : unknown;
/** What answers it. */
export type QuestionReply<T, N extends QuestionName<T>> = Of<Part<T, "questions", Open>[N], "reply", unknown>;

type Of<P, K extends "data" | "reply", Else> = P extends { [key in K]: infer V } ? V : Else;

/** What is sent to this client outside of channels. A contract may say what `private`, `group` and `broadcast` carry. */
export type ClientMessages<T> = { [Type in keyof Direct]: Carrying<Direct[Type], Part<T, "messages", object>, Type> } & Omit<
  Part<T, "messages", Record<string, Fields>>,
  keyof Direct
>;

type Carrying<Message, Messages, Type extends PropertyKey> = Message extends { message: unknown }
  ? Messages extends { [key in Type]: infer Content }
    ? Omit<Message, "message"> & { message: Content }
    : Message
  : Message;

/** The protocol's own messages to a client. */
export interface Direct {
  private: { from?: string; message: unknown; timestamp: number; offset?: number };
  group: { from?: string; room: string; message: unknown; timestamp: number; offset?: number };
  broadcast: { from?: string; message: unknown; timestamp: number; offset?: number };
  connection_state: { user: string; state: string; timestamp: number };
  retry_policy: RetryTerms;
}

/** What a channel carries where nobody says: anything. */
export type AnyContent = { message: unknown } & Record<string, unknown>;

/** The client events of a channel where nobody says: any. */
export type AnyEvents = Record<string, unknown>;

/** What the channel of this name carries, by the patterns of the contract. */
export type ChannelOf<T, Name extends string> = T extends { channels: infer C } ? ByPattern<C, Name, AnyContent> : AnyContent;

/** The client events of the channel of this name, by the patterns of the contract. */
export type ClientEventsOf<T, Name extends string> = T extends { clientEvents: infer E } ? ByPattern<E, Name, AnyEvents> : AnyEvents;

/** The name, where the contract has a pattern for it or has no channels at all; of a name known only at run time, nobody can say. */
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
