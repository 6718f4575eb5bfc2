// A server for the tests of applications, in the process of the test: it speaks `hauyna.v1` with the real client, over
// sockets that are none. A test sees what was sent, acts as everybody else, refuses, cuts the connection, turns the time.

import {
  type ChannelName,
  type ChannelOf,
  Client,
  type ClientEventsOf,
  type ClientOptions,
  type ContentOf,
  type Contract,
  type Off,
  type QuestionData,
  type QuestionName,
  type QuestionReply,
  type RequestData,
  type RequestName,
  type RequestReply,
  type WebSocketConstructor,
  closeCodes,
  comesBack,
} from "hauyna";
import { FakeChannel, type FakeChannelOptions, Refusal } from "./testing-channel.js";
import { FakeClock, type FakeTime, settled } from "./testing-clock.js";
import { type FakeConnection, FakeSocket, type WireMessage } from "./testing-socket.js";

export { FakeChannel, Refusal };
export type { FakeChannelOptions, FakeEvent, FakePerson, FakePublication } from "./testing-channel.js";
export type { FakeTime } from "./testing-clock.js";
export type { WireMessage } from "./testing-socket.js";

/** How a fake server behaves. */
export interface FakeServerOptions {
  /** `manual`, the default: time passes by {@link FakeServer.pass} alone. `global`: by the timers of the process, real or faked. */
  readonly time?: FakeTime | undefined;
  /** How each channel behaves. */
  readonly channels?: ((name: string) => FakeChannelOptions) | FakeChannelOptions | undefined;
  /** Who connects. Default: the parameter `user` of the address, else `me`. Throws a {@link Refusal} to refuse. */
  readonly authenticate?: ((request: FakeRequest) => string) | undefined;
}

/** A client that wants to connect. */
export interface FakeRequest {
  readonly url: string;
  /** The parameters of the address. */
  readonly query: Readonly<Record<string, string>>;
  /** What `getToken` has given. */
  readonly token: string | undefined;
}

/** What a client has sent. */
export interface SentMessage {
  readonly user: string;
  readonly message: WireMessage;
}

/** What a connection is subscribed to, which survives its loss. */
interface FakeSession {
  readonly user: string;
  /** The metadata of each subscription. */
  readonly channels: Map<string, unknown>;
  connection: FakeConnection;
}

type Answer = (data: never, user: string) => unknown;

/** A server in the process of a test. */
export class FakeServer<T extends Contract = Contract> {
  /** The class of sockets that lead here, for clients that the application makes. */
  readonly WebSocket: WebSocketConstructor;
  /** Everything that clients have sent, oldest first. */
  readonly sent: SentMessage[] = [];
  readonly #options: FakeServerOptions;
  readonly #clock: FakeClock;
  readonly #channels = new Map<string, FakeChannel<any, any>>();
  readonly #sessions = new Map<string, FakeSession>();
  readonly #connections = new Map<FakeConnection, FakeSession>();
  readonly #answers = new Map<string, Answer>();
  readonly #refusals: { type: string; refusal: Refusal; times: number }[] = [];
  readonly #questions = new Map<string, { resolve(data: unknown): void; reject(error: Error): void }>();
  #isCut = false;
  #status: number | undefined;
  #ids = 0;

  constructor(options: FakeServerOptions = {}) {
    this.#options = options;
    this.#clock = new FakeClock(options.time ?? "manual");
    const host = {
      opened: (connection: FakeConnection) => this.#opened(connection),
      received: (connection: FakeConnection, message: WireMessage) => this.#received(connection, message),
      closed: (connection: FakeConnection, code: number) => this.#lost(connection, code),
    };
    const id = () => `fake-connection-${++this.#ids}`;
    this.WebSocket = class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(host, id(), url, protocols);
      }
    };
  }

  /** The options of a client of this server, for clients that the application makes: sockets, time, and no log. */
  get clientOptions(): ClientOptions {
    return { WebSocket: this.WebSocket, environment: this.#clock, logger: SILENT };
  }

  /** A client of this server, which has not been asked to connect. */
  client<C extends Contract = T>({ user, ...options }: ClientOptions & { readonly user?: string | undefined } = {}): Client<C> {
    const query = user === undefined ? "" : `?user=${encodeURIComponent(user)}`;
    return new Client<C>(`wss://fake.example/${query}`, { ...this.clientOptions, ...options });
  }

  /** A client of this server, connected. */
  async connected<C extends Contract = T>(options: ClientOptions & { readonly user?: string | undefined } = {}): Promise<Client<C>> {
    const client = this.client<C>(options);
    await client.connect();
    return client;
  }

  /** The channel of this name, as the server has it. */
  channel<const Name extends string>(name: ChannelName<T, Name> & Name): FakeChannel<ContentOf<ChannelOf<T, Name>>, ClientEventsOf<T, Name>> {
    return this.#channel(name);
  }

  /** The users with a connection, one entry for each connection. */
  get users(): readonly string[] {
    return [...this.#connections.keys()].map(({ user }) => user);
  }

  /** What clients have sent of one type: the name of a request of the application, or one of the protocol. */
  requests(type: string): readonly WireMessage[] {
    return this.sent.map(({ message }) => message).filter((message) => message.type === type);
  }

  /** Answers requests of one name. Whoever throws a {@link Refusal} refuses. */
  answer<Name extends RequestName<T>>(
    name: Name,
    handler: (data: RequestData<T, Name>, user: string) => RequestReply<T, Name> | Promise<RequestReply<T, Name>>,
  ): Off {
    this.#answers.set(name, handler as Answer);
    return () => this.#answers.delete(name);
  }

  /**
   * Refuses the next requests of one type, of the protocol (`subscribe_channel`, `channel_message`, ...) or of the
   * application. Once, unless `times` says otherwise; until the returned function is called.
   */
  refuse(type: string, refusal: Refusal = new Refusal(), times = 1): Off {
    const entry = { type, refusal, times };
    this.#refusals.push(entry);
    return () => {
      entry.times = 0;
    };
  }

  /** Asks the clients of a user, and resolves with the first answer. */
  async ask<Name extends QuestionName<T>>(user: string, name: Name, data?: QuestionData<T, Name>): Promise<QuestionReply<T, Name>> {
    const asked = this.#of(user);
    if (asked.length === 0) throw new Error(`${user} is not connected`);
    const id = `q-${++this.#ids}`;
    const answer = new Promise((resolve, reject) => this.#questions.set(id, { resolve, reject }));
    for (const connection of asked) connection.say({ type: "request", id, event: name, data: data ?? null });
    return (await answer) as QuestionReply<T, Name>;
  }

  /** Sends a message to the clients of a user, outside of channels: of the application's own type, `private`, and so on. */
  async send(user: string, message: WireMessage): Promise<void> {
    for (const connection of this.#of(user)) connection.say(message);
    await settled();
  }

  /** The network is cut: every connection is lost, and no attempt succeeds until {@link restore}. */
  async cut(): Promise<void> {
    this.#isCut = true;
    await this.drop(1006);
  }

  /** The network is back, and clients are told, so that they try at once. */
  async restore(): Promise<void> {
    this.#isCut = false;
    this.#clock.online();
    await settled();
  }

  /** Ends every connection with a close code, as `closeCodes` lists them. */
  async drop(code: number, reason = ""): Promise<void> {
    for (const connection of [...this.#connections.keys()]) {
      connection.end(code, reason);
      this.#lost(connection, code);
    }
    await settled();
  }

  /** Refuses handshakes with an HTTP status from now on; with none it takes them again. */
  rejectConnections(status?: number): void {
    this.#status = status;
  }

  /** Lets milliseconds pass, and everything happen that is due in them. Only with `manual` time. */
  pass(duration: number): Promise<void> {
    return this.#clock.pass(duration);
  }

  /** Resolves when everything has arrived that was sent, in both directions. */
  settled(): Promise<void> {
    return settled();
  }

  #channel(name: string): FakeChannel<any, any> {
    let found = this.#channels.get(name);
    if (!found) {
      const { channels = {} } = this.#options;
      found = new FakeChannel(name, typeof channels === "function" ? channels(name) : channels, () => this.#clock.now());
      this.#channels.set(name, found);
    }
    return found;
  }

  #of(user: string): FakeConnection[] {
    return [...this.#connections.keys()].filter((connection) => connection.user === user);
  }

  #opened(connection: FakeConnection): void {
    if (this.#isCut || this.#status !== undefined) return connection.end(1006, "", this.#status);
    try {
      const { authenticate = ({ query }) => query["user"] ?? "me" } = this.#options;
      const { url } = connection;
      const query = Object.fromEntries(new URL(url).searchParams);
      connection.user = authenticate({ url, query, token: connection.item("hauyna.bearer.") });
    } catch (error) {
      return connection.end(closeCodes.invalidToken, error instanceof Error ? error.message : "");
    }
    connection.isOpen = true;
    connection.open();
    const resumed = this.#sessions.get(connection.item("hauyna.resume.") ?? "");
    // A client that resumes says first where it stands.
    if (resumed?.user !== connection.user) this.#begin(connection, { user: connection.user, channels: new Map(), connection });
  }

  /** Says `session`. */
  #begin(connection: FakeConnection, session: FakeSession, positions?: Record<string, never>): void {
    const before = session.connection;
    session.connection = connection;
    const follow: (() => void)[] = [];
    const entries = [...session.channels].map(([name, metadata]) => {
      const channel = this.#channel(name);
      const added = channel.add(connection, metadata, positions?.[name]);
      follow.push(added.follow, () => channel.remove(before));
      return { ...added.standing, ...(added.standing.recoverable && !positions?.[name] && { recovered: false, reason: "unknown_position" }) };
    });
    const token = `fake-session-${++this.#ids}`;
    this.#sessions.set(token, session);
    this.#connections.set(connection, session);
    const resumed = positions !== undefined;
    const { id, user } = connection;
    const resume = { token, window: 60_000 };
    connection.say({ type: "session", connection_id: id, user, resumed, resume, ...(resumed && { subscriptions: entries }) });
    for (const next of follow) next();
  }

  #lost(connection: FakeConnection, code: number): void {
    const session = this.#connections.get(connection);
    if (!this.#connections.delete(connection) || !session) return;
    // A client that closes with these does not come back; nor does one that is told to stay away.
    const isOver = !comesBack(code) || code === 1001 || code === 1005;
    for (const name of session.channels.keys()) this.#channel(name).remove(connection, !isOver);
    if (!isOver) return;
    for (const [token, other] of this.#sessions) if (other === session) this.#sessions.delete(token);
  }

  #received(connection: FakeConnection, message: WireMessage): void {
    const { type, id } = message;
    const token = connection.item("hauyna.resume.");
    if (!this.#connections.has(connection)) {
      const session = this.#sessions.get(token ?? "") as FakeSession;
      this.#sessions.delete(token ?? "");
      return this.#begin(connection, session, (message["positions"] as Record<string, never> | undefined) ?? {});
    }
    if (type === "resume") return;
    const question = this.#questions.get(String(id));
    if (question && (type === "ack" || type === "error")) {
      this.#questions.delete(String(id));
      if (type === "ack") question.resolve(message["data"]);
      else question.reject(new Error(String(message["message"] ?? "refused")));
      return;
    }
    if (type === "ping") return connection.say({ type: "pong", id });
    this.sent.push({ user: connection.user, message });
    void this.#handle(connection, message);
  }

  async #handle(connection: FakeConnection, message: WireMessage): Promise<void> {
    const { id, type } = message;
    try {
      const next = this.#refusals.find((entry) => entry.type === type && entry.times > 0);
      if (next && next.times-- > 0) throw next.refusal;
      const { data, follow } = await this.#perform(connection, message);
      if (id !== undefined) connection.say({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      const { type: error_type, details } = error instanceof Refusal ? error : new Refusal("application_error");
      const refused = { error_type, message: error instanceof Error ? error.message : String(error), details };
      connection.say({ type: "error", id, ...refused, timestamp: this.#clock.now(), temporary: TEMPORARY.includes(error_type) });
    }
  }

  async #perform(connection: FakeConnection, message: WireMessage): Promise<{ data?: unknown; follow?: () => void }> {
    const { type, id: _, ...fields } = message;
    if (!IN_CHANNELS.includes(type)) return { data: await this.#outsideOfChannels(connection, message, fields) };
    const channel = this.#channel(String(message["channel"]));
    const session = this.#connections.get(connection);
    if (type === "subscribe_channel") {
      if (channel.has(connection)) throw new Refusal("already_subscribed");
      session?.channels.set(channel.name, message["metadata"]);
      const { standing, follow } = channel.add(connection, message["metadata"], message["recover"] as never);
      return { data: standing, follow };
    }
    if (type === "history") return { data: channel.history(message as object) };
    if (!channel.has(connection)) throw new Refusal("not_subscribed");
    if (type === "channel_message") return { data: channel.take(connection, message) };
    if (type === "presence") return { data: channel.roster() };
    if (type === "client_event") channel.event(connection, message);
    else if (type === "update_presence") channel.update(connection, message["metadata"]);
    else {
      session?.channels.delete(channel.name);
      channel.remove(connection);
    }
    return {};
  }

  async #outsideOfChannels(connection: FakeConnection, message: WireMessage, data: object): Promise<unknown> {
    const { user } = connection;
    const timestamp = this.#clock.now();
    if (message.type === "private") {
      for (const other of this.#of(String(message["to"]))) other.say({ type: "private", from: user, message: message["message"], timestamp });
      return undefined;
    }
    if (message.type === "broadcast" || message.type === "group") {
      const room = message["room"];
      for (const other of this.#connections.keys()) other.say({ type: message.type, from: user, room, message: message["message"], timestamp });
      return undefined;
    }
    if (message.type === "update_status") {
      const told = [...this.#channels.values()].filter((channel) => channel.describe(user, data));
      if (told.length === 0) throw new Refusal("not_subscribed", "not present");
      return undefined;
    }
    if (message.type === "refresh") return {};
    const handler = this.#answers.get(message.type);
    if (!handler) throw new Refusal("unknown_event", `no answer to ${message.type}: call server.answer`);
    return handler(data as never, user);
  }
}

const IN_CHANNELS = [
  ...["subscribe_channel", "unsubscribe_channel", "channel_message", "history"],
  ...["presence", "update_presence", "client_event"],
];
const TEMPORARY = ["token_expired", "rate_limited", "timeout", "unavailable", "internal_error"];
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
