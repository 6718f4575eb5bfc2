import type { Client } from "hauyna";

export interface Chat {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  channels: { "room:{id}": { message: { text: string } } };
  clientEvents: { "room:{id}": { typing: undefined } };
}

/** A room of an application: the lines of a conversation, and whether they are current. */
export class Room {
  readonly lines: string[] = [];
  error = "";
  readonly #client: Client<Chat>;
  readonly #name: `room:${string}`;

  constructor(client: Client<Chat>, id: string) {
    this.#client = client;
    this.#name = `room:${id}`;
  }

  get isCurrent(): boolean {
    return this.#client.channel(this.#name).state.name === "subscribed";
  }

  async open(): Promise<void> {
    const channel = this.#client.channel(this.#name);
    channel.on("message", ({ user, content }) => this.lines.push(`${user}: ${content.text}`));
    await channel.subscribe().catch((error: Error) => (this.error = error.message));
  }

  async say(text: string): Promise<void> {
    await this.#client.channel(this.#name).publish({ text });
  }
}
