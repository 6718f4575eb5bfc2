// The types with which the bindings look up a name in the contract.

import type { Channel, ChannelName, ChannelOf, ClientEventsOf } from "hauyna";

/** The channel of this name, by the patterns of the contract. */
export type ChannelNamed<T, Name extends string> = Channel<ChannelOf<T, Name>, ClientEventsOf<T, Name>>;

/** Accepts any name that a pattern of the contract matches. */
export type Known<T, Name extends string> = [ChannelName<T, Name>] extends [never] ? never : unknown;

/** The data argument of a client event, which is optional if the data may be undefined. */
export type EventData<Data> = undefined extends Data ? [data?: Data] : [data: Data];
