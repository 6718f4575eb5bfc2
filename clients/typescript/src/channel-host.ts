// The interface through which a subscription uses its client. The session implements it once for all
// channels.

import type { Gap } from "./channel.js";
import type { Environment } from "./environment.js";
import type { Logger } from "./logger.js";
import type { Outbox } from "./outbox.js";
import type { RequestLimiter } from "./request-limiter.js";
import type { Subscription } from "./subscription.js";

/** The parts of the client that a subscription uses. */
export interface ChannelHost {
  readonly logger: Logger;
  readonly environment: Environment;
  readonly outbox: Outbox;
  /** Limits how many subscribe and unsubscribe requests are under way. */
  readonly limiter: RequestLimiter;
  /**
   * Limits how many presence and history requests are under way. It is separate, so that they do not wait for
   * subscribe requests.
   */
  readonly reads: RequestLimiter;
  key(): string;
  gap(gap: Gap): void;
  /**
   * Sets whether the session keeps the channel in memory although the application holds no reference to it.
   */
  keep(channel: Subscription, isKept: boolean): void;
}
