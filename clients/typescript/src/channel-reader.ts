// The listeners, iterators and history requests of a channel. The subscription calls the listeners.

import { bindMembers } from "./bind-members.js";
import type { ChannelState, Gap, HistoryPage, HistoryRange } from "./channel.js";
import type { Environment } from "./environment.js";
import { pageOf } from "./position.js";
import type { ChannelHost } from "./channel-host.js";
import { messages, older } from "./iterators.js";
import { Listeners, type Unsubscribe, on } from "./listeners.js";
import type { QueuedRequest } from "./outbox.js";
import type { AbortSignalLike } from "./runtime-types.js";

/** The listeners of one channel, and its history. */
export abstract class ChannelReader {
  readonly name: string;
  abstract readonly state: ChannelState;
  readonly environment: Environment;
  protected readonly host: ChannelHost;
  protected readonly listeners: Listeners;

  /** `changed` is called when a listener was added or removed. */
  constructor(name: string, host: ChannelHost, changed: () => void) {
    bindMembers(this);
    this.name = name;
    this.host = host;
    this.environment = host.environment;
    this.listeners = new Listeners(host.logger, changed);
  }

  on(event: string, listener: (value: never) => void): Unsubscribe {
    return this.listeners.add(on(event), listener);
  }

  onEvent(type: string, listener: (event: never) => void): Unsubscribe {
    return this.listeners.add(`event ${type}`, listener);
  }

  onGap(listener: (gap: Gap) => void): Unsubscribe {
    return this.listeners.add("gap", listener);
  }

  onState(listener: (state: ChannelState) => void): Unsubscribe {
    return this.listeners.add("state", listener);
  }

  history({ signal, ...range }: HistoryRange = {}): Promise<HistoryPage<{ message: unknown }>> {
    const message = { type: "history", channel: this.name, ...range };
    return this.ask({ message, retry: "always", signal, take: pageOf }) as Promise<HistoryPage<{ message: unknown }>>;
  }

  older(range: HistoryRange = {}) {
    return older(this as never, range);
  }

  messages({ signal }: { readonly signal?: AbortSignalLike } = {}) {
    return messages(this as never, signal, (listener) => this.listeners.add("closed", listener));
  }

  /** Sends a request that waits for the answer to a pending `subscribe`. */
  protected ask(request: QueuedRequest): Promise<unknown> {
    return this.host.outbox.request({ ...request, isHeld: () => this.state.name === "subscribing" });
  }
}
