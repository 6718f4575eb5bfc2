// What a subscription needs of its client. The session implements it for each channel.

import type { Gap } from "./channel.js";
import type { Environment } from "./environment.js";
import type { HauynaError } from "./error.js";
import type { Logger } from "./logger.js";
import type { Asked, Urgent } from "./outbox.js";
import type { ServerMessage } from "./protocol.js";
import type { Subscription } from "./subscription.js";

/** What a subscription needs of its client. */
export interface ChannelHost {
  readonly logger: Logger;
  readonly environment: Environment;
  request(asked: Asked): Promise<unknown>;
  /** On this connection, past what waits; fails where there is none. */
  urgent(asked: Urgent): Promise<unknown>;
  /** On this connection, without an answer; nothing where there is none. */
  tell(message: ServerMessage): void;
  /** Asks when it is this channel's turn: a few channels are subscribed to at a time. */
  inTurn<T>(ask: () => Promise<T>): Promise<T>;
  isConnected(): boolean;
  /** Why nothing is asked any more, where that is so. */
  closed(): HauynaError | undefined;
  key(): string;
  gap(gap: Gap): void;
  /** The channel has another memory now. */
  turned(): void;
  /** What was held may be sent. */
  flush(): void;
  /** Whether the channel stays in memory though nobody holds it. */
  keep(channel: Subscription, isKept: boolean): void;
}
