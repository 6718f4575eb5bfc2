// What the server is asked of one subscription, one request after the other. The end of one that it has not
// answered waits for the answer: a server that refuses the subscription refuses its end, too, and counts that as
// an error of this client.

import type { ServerError } from "./error.js";
import { Listening } from "./listening.js";
import type { Urgent } from "./outbox.js";

/** What the server was asked of one subscription. */
export abstract class Asking extends Listening {
  /** The server has it, as far as this client has heard; or may have it, since the answer was lost. */
  isThere = false;
  /**
   * The last request for it on this connection. The next one waits for the answer, behind an end that waits for it,
   * too.
   */
  #asked: Promise<unknown> | undefined;
  /** The server has not answered it. */
  #isOpen = false;

  /** Asks for it, behind the end of an earlier one. */
  protected askToBegin(isWanted: () => boolean, request: Urgent): Promise<unknown> {
    const begin = async () => {
      if (!isWanted()) return;
      const asked = (this.#asked = this.host.outbox.urgent(request));
      this.#isOpen = true;
      try {
        await asked;
      } catch (error) {
        this.isThere ||= (error as Partial<ServerError>).type === "already_subscribed";
        throw error;
      } finally {
        if (asked === this.#asked) this.#isOpen = false;
      }
    };
    return this.host.gate.pass(begin, this.#asked);
  }

  /** Whether the server has it, or will have it, as far as is known: else there is nothing to end. */
  protected mayBeThere(): boolean {
    return this.isThere || this.#isOpen;
  }

  /** Asks for its end, if the server has it; or may have it, where the answer is late. */
  protected askToEnd(): Promise<unknown> {
    const end = async () => {
      if (!this.mayBeThere()) return;
      this.isThere = false;
      this.#forget();
      await this.host.outbox.urgent({ message: { type: "unsubscribe_channel", channel: this.name } });
    };
    return this.host.gate.pass(end, this.#isOpen ? this.#asked : undefined);
  }

  /** The connection is lost, and with it the answer. */
  protected loseAnswer(): void {
    this.isThere ||= this.#isOpen;
    this.#forget();
  }

  #forget(): void {
    this.#isOpen = false;
    this.#asked = undefined;
  }
}
