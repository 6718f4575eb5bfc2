// What somebody has written and the server has not acknowledged: kept over reloads of the page, sent until it is
// taken or refused. Each has a key, so that the server publishes it once, however often it is sent.

export class Outgoing {
  #client;
  #store;
  /** Oldest first. */
  #entries;
  #settled;

  /** `settled` is told where each entry ended: its position, or the problem. */
  constructor(client, name, settled) {
    this.#client = client;
    this.#store = `hauyna.outbox.${name}`;
    this.#settled = settled;
    this.#entries = JSON.parse(sessionStorage.getItem(this.#store) ?? "[]");
  }

  get unsent() {
    return [...this.#entries];
  }

  /** Sends what an earlier page has left. */
  start() {
    for (const entry of this.unsent) void this.#send(entry);
  }

  publish(channel, content) {
    const entry = { key: newKey(), channel, content, timestamp: Date.now() };
    this.#entries.push(entry);
    this.#remember();
    void this.#send(entry);
    return entry;
  }

  async #send(entry) {
    const { channel, content, key } = entry;
    for (;;) {
      try {
        const position = await this.#client.channel(channel).publish(content, { key, ttl: Infinity });
        return this.#end(entry, position ?? {});
      } catch (problem) {
        const again = problem.temporary || problem.kind === "timeout" || problem.kind === "closed";
        if (!again) return this.#end(entry, { problem });
        if (problem.kind === "closed") await this.#connected();
        else await new Promise((done) => setTimeout(done, problem.retryAfter ?? 1000));
      }
    }
  }

  #connected() {
    return new Promise((done) => {
      const off = this.#client.onState(({ name }) => name === "connected" && (off(), done()));
    });
  }

  #end(entry, outcome) {
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#remember();
    this.#settled(entry, outcome);
  }

  #remember() {
    sessionStorage.setItem(this.#store, JSON.stringify(this.#entries));
  }
}

/** `randomUUID` is for secure pages alone, and this one may be on a plain address. */
function newKey() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
}
