// What the stores need of a client and of a channel, whatever their contract. Types alone.

import type { ChannelState, Client, Gap, HistoryPage, HistoryRange, Off, Presence, Publication, Published, Subscribed, SubscribeOptions } from "hauyna";

/** A client of any contract. */

export type AnyClient = Client<any>;

/** A channel of any contract. */
export interface AnyChannel {
  readonly name: string;
  readonly state: ChannelState;
  readonly position: { readonly epoch: string; readonly offset: number } | undefined;
  readonly presence: Presence & { update?(metadata: object): Promise<void> };
  on(event: any, listener: (message: any) => void): Off;
  onGap(listener: (gap: Gap) => void): Off;
  onState(listener: (state: ChannelState) => void): Off;
  subscribe(options?: SubscribeOptions & { signal?: AbortSignal }): Promise<Subscribed>;
  unsubscribe(): Promise<void>;
  publish(content: any, options?: { key?: string; echo?: boolean }): Promise<Published>;
  history(range?: HistoryRange): Promise<HistoryPage<{ message: any }>>;
  send?(type: string, data?: unknown): void;
  onEvent?(type: string, listener: (event: { user: string; data: any }) => void): Off;
}

/** What somebody has published, to a listener of `AnyChannel`. */
export type AnyPublication = Publication<any>;
