// What a subscription needs of its client. The session implements it, once for all channels.

import type { Gap } from "./channel.js";
import type { Environment } from "./environment.js";
import type { Logger } from "./logger.js";
import type { Outbox } from "./outbox.js";
import type { Gate } from "./restoring.js";
import type { Subscription } from "./subscription.js";

/** What a subscription needs of its client. */
export interface ChannelHost {
  readonly logger: Logger;
  readonly environment: Environment;
  readonly outbox: Outbox;
  /** A few channels are subscribed to, or given up, at a time. */
  readonly gate: Gate;
  /** Of lists and of the history, too; they do not wait for who may subscribe. */
  readonly reads: Gate;
  key(): string;
  gap(gap: Gap): void;
  /** Whether the channel stays in memory though nobody holds it. */
  keep(channel: Subscription, isKept: boolean): void;
}
