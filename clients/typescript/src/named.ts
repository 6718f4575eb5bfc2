// Types that the bindings share: what the contract says about a name.

import type { Channel, ChannelName, ChannelOf, ClientEventsOf } from "hauyna";

/** The channel of this name, by the patterns of the contract. */
export type ChannelNamed<T, Name extends string> = Channel<ChannelOf<T, Name>, ClientEventsOf<T, Name>>;

/** Anything, where the contract has a pattern for this name; else nothing. */
export type Known<T, Name extends string> = [ChannelName<T, Name>] extends [never] ? never : unknown;

/** What goes with a client event: nothing has to, where its data may be undefined. */
export type EventData<Data> = undefined extends Data ? [data?: Data] : [data: Data];
