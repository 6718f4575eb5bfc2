// What an application may listen to in a channel, by listeners and by iterators. The subscription says when it happens.

import { bindMembers } from "./bind.js";
import type { ChannelState, Gap, HistoryPage, HistoryRange } from "./channel.js";
import type { ChannelHost } from "./host.js";
import { messages, older } from "./iterate.js";
import { Listeners, type Off, on } from "./listeners.js";
import type { AbortSignalLike } from "./standard.js";

/** The listeners of one channel. */
export abstract class Listening {
  protected readonly listeners: Listeners;

  readonly environment: ChannelHost["environment"];

  /** `changed` is called when somebody has begun or ended to listen. */
  constructor(host: Pick<ChannelHost, "logger" | "environment">, changed: () => void) {
    bindMembers(this);
    this.environment = host.environment;
    this.listeners = new Listeners(host.logger, changed);
  }

  on(event: string, listener: (value: never) => void): Off {
    return this.listeners.add(on(event), listener);
  }

  onEvent(type: string, listener: (event: never) => void): Off {
    return this.listeners.add(`event ${type}`, listener);
  }

  onGap(listener: (gap: Gap) => void): Off {
    return this.listeners.add("gap", listener);
  }

  onState(listener: (state: ChannelState) => void): Off {
    return this.listeners.add("state", listener);
  }

  abstract history(range?: HistoryRange): Promise<HistoryPage<{ message: unknown }>>;

  older(range: HistoryRange = {}) {
    return older(this as never, range);
  }

  messages({ signal }: { readonly signal?: AbortSignalLike } = {}) {
    return messages(this as never, signal);
  }
}
