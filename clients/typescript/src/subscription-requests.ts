// The subscribe and unsubscribe requests of one subscription, one after the other. An unsubscribe request
// waits for the answer to a pending subscribe request: a server that refuses the subscription refuses its end
// as well, and counts that as an error of this client.

import { ChannelReader } from "./channel-reader.js";
import type { ServerError } from "./error.js";
import type { UrgentRequest } from "./outbox.js";

/** The requests of one subscription. */
export abstract class SubscriptionRequests extends ChannelReader {
  /**
   * Whether the server has the subscription, as far as this client has heard, or may have it after a lost
   * answer.
   */
  exists = false;
  /** The last request on this connection, including an unsubscribe request that waits for it. */
  #lastRequest: Promise<unknown> | undefined;
  /** Whether the subscribe request waits for its answer. */
  #isPending = false;

  /** Sends the subscribe request, after the end of an earlier subscription. */
  protected requestStart(isWanted: () => boolean, request: UrgentRequest): Promise<unknown> {
    const start = async () => {
      if (!isWanted()) return;
      const answer = (this.#lastRequest = this.host.outbox.sendNow(request));
      this.#isPending = true;
      try {
        await answer;
      } catch (error) {
        this.exists ||= (error as Partial<ServerError>).type === "already_subscribed";
        throw error;
      } finally {
        if (answer === this.#lastRequest) this.#isPending = false;
      }
    };
    return this.host.limiter.run(start, this.#lastRequest);
  }

  /** Whether the server has the subscription, or may have it after a pending answer. */
  protected mayExist(): boolean {
    return this.exists || this.#isPending;
  }

  /** Sends the unsubscribe request, if the server has the subscription or may have it. */
  protected requestEnd(): Promise<unknown> {
    const end = async () => {
      if (!this.mayExist()) return;
      this.exists = false;
      this.#forgetRequest();
      await this.host.outbox.sendNow({ message: { type: "unsubscribe_channel", channel: this.name } });
    };
    return this.host.limiter.run(end, this.#isPending ? this.#lastRequest : undefined);
  }

  /** Handles that the connection, and with it a pending answer, is lost. */
  protected loseAnswer(): void {
    this.exists ||= this.#isPending;
    this.#forgetRequest();
  }

  #forgetRequest(): void {
    this.#isPending = false;
    this.#lastRequest = undefined;
  }
}
