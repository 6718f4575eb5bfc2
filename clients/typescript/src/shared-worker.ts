// The worker's half: it connects once, and is to each page what the server would be. A page's subscription is a share of
// the worker's; what a page has missed comes from the server's history.

import { Client, type ClientOptions, type Codec, type Contract, type Position, ServerError, type State, type Subscribed, json, msgpack } from "hauyna";
import type { FromPage, FromWorker, Settings } from "./shared-port.js";
import { type Known, Tab, type TabSocket, type Wire } from "./shared-tab.js";

/** Serves the pages that connect to this shared worker, see {@link sharedClient}. To be called once, by the worker's script. */
export function serveTabs(): void {
  const hub = new Hub();
  // In a page's compiler there is no type for the worker's own scope.
  const scope = globalThis as unknown as { onconnect: (event: MessageEvent) => void };
  scope.onconnect = ({ ports: [port] }) => port && hub.join(port);
}

/** The connection, and the pages that share it. */
class Hub {
  readonly #tabs = new Set<Tab>();
  readonly #channels = new Map<string, Known>();
  readonly #questions = new Set<string>();
  readonly #tokens = new Map<number, (token: string | undefined) => void>();
  #client: Client | undefined;
  #ids = 0;

  join(port: MessagePort): void {
    const tab = new Tab((message: FromWorker) => port.postMessage(message));
    let silence: ReturnType<typeof setTimeout> | undefined;
    const leave = () => this.#leave(tab);
    port.onmessage = ({ data }: MessageEvent<FromPage>) => {
      if (data.say === "hello") {
        this.#tabs.add(tab);
        tab.settings = data.settings;
        // It is granted when the page has ended.
        if (data.lock) void navigator.locks.request(data.lock, leave);
        if (tab.waiting) this.#open(tab, tab.waiting);
      } else if (data.say === "open") this.#open(tab, { number: data.socket, codec: data.protocol === msgpack.protocol ? msgpack : json });
      else if (data.say === "close") this.#close(tab, data.socket);
      else if (data.say === "token") this.#tokens.get(data.id)?.(data.token);
      else if (data.say === "frame") this.#hear(tab, data.socket, data.frame);
      if (tab.settings && !navigator.locks) {
        clearTimeout(silence);
        silence = setTimeout(leave, SILENCE);
      }
    };
  }

  // Pages

  #open(tab: Tab, socket: TabSocket): void {
    tab.waiting = socket;
    if (!tab.settings) return;
    const client = (this.#client ??= this.#connect(tab.settings, socket.codec));
    if (client.state.name === "connected") this.#begin(tab, client.state);
    else if (client.state.name === "closed") void client.connect().catch(() => {});
    else client.reconnect();
  }

  #begin(tab: Tab, state: State & { name: "connected" }): void {
    if (!tab.waiting) return;
    tab.begin(tab.waiting);
    const { connectionId, user, maxMessage } = state.session;
    const limits = maxMessage === undefined ? {} : { limits: { max_message: maxMessage } };
    // Between a page and its worker nothing is lost: there is no need to listen for silence.
    const heartbeat = { interval: 3_600_000, timeout: 7_200_000 };
    tab.tell({ type: "session", connection_id: connectionId, user, resumed: false, heartbeat, ...limits });
  }

  #close(tab: Tab, number: number): void {
    if (number === 0) tab.isAway = false;
    if (tab.waiting?.number === number) tab.waiting = undefined;
    if (tab.socket?.number === number) tab.socket = undefined;
    if (tab.isAway || (tab.socket ?? tab.waiting)) return;
    tab.release();
    this.#closeIfUnused();
  }

  #leave(tab: Tab): void {
    tab.socket = tab.waiting = undefined;
    tab.isAway = false;
    tab.release();
    this.#tabs.delete(tab);
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if ([...this.#tabs].some(({ socket, waiting, isAway }) => isAway || (socket ?? waiting))) return;
    this.#client?.close();
    this.#client = undefined;
    this.#channels.clear();
  }

  // The server

  #connect({ url, hasToken, retry, timeout, connectTimeout }: Settings, codec: Codec): Client {
    const tapped: Codec = {
      ...codec,
      decode: (data) => {
        const message = codec.decode(data);
        // What is no message is the client's affair.
        if (typeof message === "object" && message !== null && "type" in message) this.#look(message as Wire);
        return message;
      },
    };
    const getToken: ClientOptions["getToken"] = hasToken ? ({ isRefresh }) => this.#token(isRefresh) : undefined;
    const client = new Client<Contract>(url, { codec: tapped, retry, timeout, connectTimeout, getToken });
    client.onState((state) => this.#changed(client, state));
    void client.connect().catch(() => {});
    return client;
  }

  #changed(client: Client, state: State): void {
    if (client !== this.#client) return;
    for (const tab of this.#tabs) {
      if (state.name === "connected") {
        tab.say({ say: "network", isThere: true });
        this.#begin(tab, state);
      } else if (state.name === "closed") tab.end(state.code ?? 1006, state.reason);
      else {
        tab.say({ say: "network", isThere: false });
        tab.end(1006, state.reason ?? "");
      }
    }
  }

  /** Asks the pages, the newest first, until one gives credentials. */
  async #token(isRefresh: boolean): Promise<string | undefined> {
    for (const tab of [...this.#tabs].reverse()) {
      const id = ++this.#ids;
      const token = await new Promise<string | undefined>((resolve) => {
        this.#tokens.set(id, resolve);
        tab.say({ say: "token?", id, isRefresh });
        setTimeout(resolve, PATIENCE);
      });
      this.#tokens.delete(id);
      if (token !== undefined) return token;
    }
    return undefined;
  }

  /** Passes on what the server says, before the worker's own client hears it. */
  #look(message: Wire): void {
    const { type, channel, id } = message;
    if (type === "session") for (const entry of (message["subscriptions"] as Known[] | undefined) ?? []) this.#know(entry);
    if (type === "request") return this.#answerBy(String(message["event"]));
    const data = message["data"] as Known | null | undefined;
    if (type === "ack" && typeof data?.channel === "string" && data.recoverable !== undefined) this.#know(data);
    if (OWN.has(type) || (type === "error" && id !== undefined)) return;
    if (typeof channel !== "string") return this.#tell(message);
    if (type === "subscribed") this.#know(message as unknown as Known);
    const known = this.#channels.get(channel);
    if (known) {
      if (/^(presence_state|occupancy)$/.test(type)) known.presence = type;
      if (typeof message["offset"] === "number" && !/^(presence_|subscribed|gap)/.test(type)) known.offset = message["offset"];
    }
    for (const tab of this.#tabs) {
      if (type === "unsubscribed") tab.ended(channel, message);
      else tab.pass(channel, message);
    }
  }

  #know({ channel, epoch, offset, recoverable, client_events }: Known): void {
    const { presence } = this.#channels.get(channel) ?? {};
    this.#channels.set(channel, { channel, epoch, offset, recoverable, client_events, presence });
  }

  #tell(message: Wire): void {
    for (const tab of this.#tabs) tab.tell(message);
  }

  /** Lets the pages answer questions of this name. The first answer counts, and a refusal only where nobody answers. */
  #answerBy(event: string): void {
    if (this.#questions.has(event) || !this.#client) return;
    this.#questions.add(event);
    this.#client.onRequest(event, (data) => Promise.any([...this.#tabs].map((tab) => tab.ask(event, data))).catch(({ errors }) => Promise.reject(errors[0])));
  }

  // Requests of pages

  #hear(tab: Tab, number: number, frame: string | Uint8Array): void {
    const { socket } = tab;
    if (socket?.number !== number) return;
    const message = socket.codec.decode(typeof frame === "string" ? frame : frame.slice().buffer) as Wire;
    if (message.type === "ping") return tab.tell({ type: "pong", id: message.id });
    if (message.type !== "resume" && !tab.answered(message)) void this.#perform(tab, message);
  }

  async #perform(tab: Tab, message: Wire): Promise<void> {
    const { id } = message;
    const { socket } = tab;
    try {
      const { data, follow } = await this.#done(tab, message);
      if (tab.socket !== socket) return;
      if (id !== undefined) tab.tell({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      // Where the connection is lost, so is the page's, and its client decides what to do.
      if (!(error instanceof ServerError) || tab.socket !== socket) return;
      const { type: error_type, temporary, details } = error;
      tab.tell({ type: "error", id, error_type, message: error.message, temporary, details, timestamp: Date.now() });
    }
  }

  async #done(tab: Tab, message: Wire): Promise<{ data?: unknown; follow?: () => void }> {
    const client = this.#client as Client;
    const name = String(message.channel);
    const { type, id: _, ...fields } = message;
    if (type === "subscribe_channel") return this.#subscribe(client, tab, name, message);
    if (type === "unsubscribe_channel") return void (await tab.release(name)), {};
    if (type === "channel_message" && message["echo"] === false) return { data: await this.#publishQuietly(client, tab, name, fields) };
    if (type !== "client_event") return { data: await client.request(type, fields as never, { timeout: Infinity }) };
    const event = String(message["event"]);
    client.channel<object>(name as never).send(event, message["data"] as never);
    // The server leaves out this connection, and with it the other pages.
    for (const other of this.#tabs) {
      if (other !== tab) other.pass(name, { type, channel: name, event, user: client.user, data: message["data"] });
    }
    return {};
  }

  async #subscribe(client: Client, tab: Tab, name: string, message: Wire): Promise<{ data: unknown; follow: () => void }> {
    const { socket } = tab;
    const releases = tab.releasesOf(name);
    const token = message["token"] as string | undefined;
    const isFirst = ![...this.#tabs].some((other) => other.has(name));
    const share: Subscribed = await client.channel<object>(name as never).subscribe({
      ...(message["metadata"] != null && { metadata: message["metadata"] as never }),
      ...(token !== undefined && { getToken: () => token }),
    });
    if (tab.socket !== socket || releases !== tab.releasesOf(name)) {
      void share.unsubscribe();
      throw new Error("given up");
    }
    const flow = tab.hold(name, share);
    const { presence, ...known } = this.#channels.get(name) ?? { channel: name, recoverable: share.recoverable, ...share.position };
    let recovered: Wire[] | string | undefined;
    try {
      if (message["recover"]) recovered = await this.#missed(client, known, message["recover"] as Position);
    } catch (error) {
      void tab.release(name);
      throw error;
    }
    return {
      data: { ...known, ...(Array.isArray(recovered) ? { recovered: true } : recovered && { recovered: false, reason: recovered }) },
      follow: () => {
        flow.release(Array.isArray(recovered) ? recovered : []);
        if (presence && !isFirst) void this.#present(client, tab, name, presence);
      },
    };
  }

  /** The messages after a position, up to where the channel stands; or why they are not to be had. */
  async #missed(client: Client, { channel, epoch, offset = 0, recoverable }: Known, since: Position): Promise<Wire[] | string | undefined> {
    if (!recoverable) return undefined;
    if (since.epoch !== epoch) return "epoch_changed";
    const found: Wire[] = [];
    try {
      for (let at = since.offset; at < offset; ) {
        const page = (await client.request("history", { channel, since: { epoch, offset: at } } as never)) as { messages: Wire[] };
        const last = page.messages.at(-1)?.["offset"];
        if (typeof last !== "number") break;
        found.push(...page.messages.filter((message) => (message["offset"] as number) <= offset));
        at = last;
      }
    } catch (error) {
      const reason = error instanceof ServerError ? error.details["reason"] : undefined;
      if (typeof reason === "string") return reason;
      throw error;
    }
    return found;
  }

  /** Tells a page who is present: the server has told so when the first one subscribed. */
  async #present(client: Client, tab: Tab, name: string, type: string): Promise<void> {
    const channel = client.channel<object>(name as never);
    if (type === "occupancy") return tab.pass(name, { type, channel: name, count: channel.presence.count });
    try {
      let list = (await client.request("presence", { channel: name } as never)) as { users: object; next?: string };
      const { users, ...first } = list;
      let all = users;
      while (list.next !== undefined) {
        list = (await client.request("presence", { channel: name, after: list.next } as never)) as typeof list;
        all = { ...all, ...list.users };
      }
      tab.pass(name, { type, ...first, channel: name, users: all });
    } catch {
      // The connection is lost, and the page will ask anew; or it may not see who is there.
    }
  }

  /** Publishes without an echo for this page: other pages of this browser get it as others do. */
  async #publishQuietly(client: Client, tab: Tab, name: string, { echo: _, ...fields }: Record<string, unknown>): Promise<unknown> {
    const flow = tab.pause(name);
    let own: Position | undefined;
    try {
      own = (await client.request("channel_message", fields as never)) as Position | undefined;
      return own;
    } finally {
      flow?.resume((message) => own !== undefined && message["offset"] === own.offset);
    }
  }
}

/** Between the server and the worker's client alone. */
const OWN = new Set(["session", "ack", "pong", "retry_policy", "reconnect"]);
/** Milliseconds after which a page without locks that says nothing is taken for gone: timers of hidden pages run once a minute. */
const SILENCE = 180_000;
/** Milliseconds that a page has to give credentials. */
const PATIENCE = 5_000;
