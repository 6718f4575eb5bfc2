// A server for the tests of applications, in the process of the test. It speaks `hauyna.v1` with the real
// client over fake sockets. A test reads what was sent, acts as other users, refuses requests, cuts the
// connection, and controls the time.

import {
  type ChannelName,
  type ChannelOf,
  Client,
  type ClientEventsOf,
  type ClientOptions,
  type ContentOf,
  type Contract,
  type Unsubscribe,
  type QuestionData,
  type QuestionName,
  type QuestionReply,
  type RequestData,
  type RequestName,
  type RequestReply,
  type WebSocketConstructor,
  closeCodes,
  shouldReconnect,
} from "hauyna";
import { FakeChannel, type FakeChannelOptions, PublicationKeys, Refusal } from "./testing-channel.js";
import { FakeClock, type FakeTime, settled } from "./testing-clock.js";
import { checkRequest } from "./testing-requests.js";
import { FakeSessions } from "./testing-sessions.js";
import { type FakeConnection, FakeSocket, type WireMessage } from "./testing-socket.js";

export { FakeChannel, Refusal };
export type { FakeChannelOptions, FakeEvent, FakePerson, FakePublication } from "./testing-channel.js";
export type { FakeTime } from "./testing-clock.js";
export type { WireMessage } from "./testing-socket.js";

/** The options of a fake server. */
export interface FakeServerOptions {
  /**
   * What controls the time. `manual`, the default: only {@link FakeServer.pass}. `global`: the timers of the
   * process, real or faked.
   */
  readonly time?: FakeTime | undefined;
  /** The options of each channel. */
  readonly channels?: ((name: string) => FakeChannelOptions) | FakeChannelOptions | undefined;
  /**
   * Returns the user of a connection. Default: the parameter `user` of the address, otherwise `me`. Throws a
   * {@link Refusal} to refuse.
   */
  readonly authenticate?: ((request: FakeRequest) => string) | undefined;
}

/** A request to connect. */
export interface FakeRequest {
  readonly url: string;
  /** The query parameters of the address. */
  readonly query: Readonly<Record<string, string>>;
  /** The token of `getToken`. */
  readonly token: string | undefined;
}

/** A message that a client has sent. */
export interface SentMessage {
  readonly user: string;
  readonly message: WireMessage;
}

/** A client request without an answer. */
interface PendingClientRequest {
  readonly asked: Set<FakeConnection>;
  resolve(data: unknown): void;
  reject(error: Error): void;
}

type RequestHandler = (data: never, user: string) => unknown;

/** The answer to a request, and a function that sends what follows it. */
interface RequestResult {
  readonly data?: unknown;
  readonly follow?: () => void;
}

/** A server in the process of a test. */
export class FakeServer<T extends Contract = Contract> {
  /** The class of sockets to this server, for clients that the application creates. */
  readonly WebSocket: WebSocketConstructor;
  /** All messages that clients have sent, oldest first. */
  readonly sent: SentMessage[] = [];
  readonly #options: FakeServerOptions;
  readonly #clock: FakeClock;
  readonly #channels = new Map<string, FakeChannel<any, any>>();
  readonly #sessions: FakeSessions;
  readonly #handlers = new Map<string, RequestHandler>();
  readonly #refusals: { type: string; refusal: Refusal; times: number }[] = [];
  readonly #clientRequests = new Map<string, PendingClientRequest>();
  /** The keys of messages outside of channels. */
  readonly #keys: PublicationKeys;
  #isCut = false;
  #rejectStatus: number | undefined;
  #idCount = 0;

  constructor(options: FakeServerOptions = {}) {
    this.#options = options;
    this.#clock = new FakeClock(options.time ?? "manual");
    this.#keys = new PublicationKeys(() => this.#clock.now());
    this.#sessions = new FakeSessions(this.#clock, (name) => this.#channel(name));
    const host = {
      opened: (connection: FakeConnection) => this.#opened(connection),
      received: (connection: FakeConnection, message: WireMessage) => this.#received(connection, message),
      closed: (connection: FakeConnection, code: number) =>
        this.#connectionLost(connection, !shouldReconnect(code) || code === 1001 || code === 1005),
    };
    const id = () => `fake-connection-${++this.#idCount}`;
    this.WebSocket = class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(host, id(), url, protocols);
      }
    };
  }

  /**
   * The options of a client of this server, for clients that the application creates: sockets, time, and a
   * silent logger.
   */
  get clientOptions(): ClientOptions {
    return { WebSocket: this.WebSocket, environment: this.#clock, logger: SILENT_LOGGER };
  }

  /** Returns a client of this server that is not connected. */
  client<C extends Contract = T>({ user, ...options }: ClientOptions & { readonly user?: string | undefined } = {}): Client<C> {
    const query = user === undefined ? "" : `?user=${encodeURIComponent(user)}`;
    return new Client<C>(`wss://fake.example/${query}`, { ...this.clientOptions, ...options });
  }

  /** Returns a client of this server that is connected. */
  async connected<C extends Contract = T>(options: ClientOptions & { readonly user?: string | undefined } = {}): Promise<Client<C>> {
    const client = this.client<C>(options);
    await client.connect();
    return client;
  }

  /** Returns the server's channel of this name. */
  channel<const Name extends string>(name: ChannelName<T, Name> & Name): FakeChannel<ContentOf<ChannelOf<T, Name>>, ClientEventsOf<T, Name>> {
    return this.#channel(name);
  }

  /** The users of the connections, one entry for each connection. */
  get users(): readonly string[] {
    return [...this.#sessions.connections].map(({ user }) => user);
  }

  /**
   * Returns the messages of one type that clients have sent: a request of the application or of the protocol.
   */
  requests(type: string): readonly WireMessage[] {
    return this.sent.map(({ message }) => message).filter((message) => message.type === type);
  }

  /** Sets the handler of the requests of this name. It throws a {@link Refusal} to refuse. */
  answer<Name extends RequestName<T>>(
    name: Name,
    handler: (data: RequestData<T, Name>, user: string) => RequestReply<T, Name> | Promise<RequestReply<T, Name>>,
  ): Unsubscribe {
    this.#handlers.set(name, handler as RequestHandler);
    return () => this.#handlers.delete(name);
  }

  /**
   * Refuses the next request of one type, of the protocol (`subscribe_channel`, `channel_message`, ...) or of
   * the application. `times` is how many it refuses; the returned function ends the refusals.
   */
  refuse(type: string, refusal: Refusal = new Refusal(), times = 1): Unsubscribe {
    const entry = { type, refusal, times };
    this.#refusals.push(entry);
    return () => {
      entry.times = 0;
    };
  }

  /**
   * Sends a client request to the clients of a user, and resolves with the first answer. Rejects if no client
   * is left that could answer.
   */
  async ask<Name extends QuestionName<T>>(user: string, name: Name, data?: QuestionData<T, Name>): Promise<QuestionReply<T, Name>> {
    const connections = this.#connectionsOf(user);
    if (connections.length === 0) throw new Error(`${user} is not connected`);
    const id = `q-${++this.#idCount}`;
    const answer = new Promise((resolve, reject) => this.#clientRequests.set(id, { asked: new Set(connections), resolve, reject }));
    for (const connection of connections) connection.send({ type: "request", id, event: name, data: data ?? null });
    return (await answer) as QuestionReply<T, Name>;
  }

  /**
   * Sends a message to the clients of a user, outside of channels: `private`, one of the application's own
   * types, and so on.
   */
  async send(user: string, message: WireMessage): Promise<void> {
    for (const connection of this.#connectionsOf(user)) connection.send(message);
    await settled();
  }

  /** Cuts the network: every connection is lost, and no attempt succeeds until {@link restore}. */
  async cut(): Promise<void> {
    this.#isCut = true;
    await this.drop(1006);
  }

  /** Restores the network, and tells the clients, so that they try at once. */
  async restore(): Promise<void> {
    this.#isCut = false;
    this.#clock.online();
    await settled();
  }

  /** Ends every connection with a close code, see `closeCodes`. */
  async drop(code: number, reason = ""): Promise<void> {
    for (const connection of [...this.#sessions.connections]) {
      connection.end(code, reason);
      this.#connectionLost(connection, !shouldReconnect(code));
    }
    await settled();
  }

  /** Refuses handshakes with an HTTP status from now on. Without one it accepts them again. */
  rejectConnections(status?: number): void {
    this.#rejectStatus = status;
  }

  /**
   * Advances the time by `duration` milliseconds, and runs everything that becomes due. Only with `manual`
   * time.
   */
  pass(duration: number): Promise<void> {
    return this.#clock.pass(duration);
  }

  /** Resolves when all messages have arrived, in both directions. */
  settled(): Promise<void> {
    return settled();
  }

  #channel(name: string): FakeChannel<any, any> {
    let channel = this.#channels.get(name);
    if (!channel) {
      const { channels = {} } = this.#options;
      const options = typeof channels === "function" ? channels(name) : channels;
      channel = new FakeChannel(name, options, () => this.#clock.now(), (user) => this.#sessions.unsubscribe(name, user));
      this.#channels.set(name, channel);
    }
    return channel;
  }

  #connectionsOf(user: string): FakeConnection[] {
    return [...this.#sessions.connections].filter((connection) => connection.user === user);
  }

  #opened(connection: FakeConnection): void {
    if (this.#isCut || this.#rejectStatus !== undefined) return connection.end(1006, "", this.#rejectStatus);
    try {
      const { authenticate = ({ query }) => query["user"] ?? "me" } = this.#options;
      const { url } = connection;
      connection.user = authenticate({ url, query: queryOf(url), token: connection.protocolSuffix("hauyna.bearer.") });
    } catch (error) {
      return connection.end(closeCodes.invalidToken, error instanceof Error ? error.message : "");
    }
    connection.isOpen = true;
    connection.open();
    this.#sessions.opened(connection);
  }

  /** Handles the loss of a connection. With `isOver` its client does not return, or not with this session. */
  #connectionLost(connection: FakeConnection, isOver: boolean): void {
    if (!this.#sessions.lost(connection, isOver)) return;
    for (const [id, clientRequest] of this.#clientRequests) {
      clientRequest.asked.delete(connection);
      if (clientRequest.asked.size > 0) continue;
      this.#clientRequests.delete(id);
      clientRequest.reject(new Error(`${connection.user} is gone`));
    }
  }

  #received(connection: FakeConnection, message: WireMessage): void {
    const { type, id } = message;
    if (this.#sessions.received(connection, message)) return;
    if (type === "ack" || type === "error") return this.#answered(connection, message);
    if (type === "ping") return connection.send({ type: "pong", id });
    this.sent.push({ user: connection.user, message });
    void this.#handleRequest(connection, message);
  }

  #answered(connection: FakeConnection, { type, id, data, message }: WireMessage): void {
    const clientRequest = this.#clientRequests.get(String(id));
    if (!clientRequest?.asked.has(connection)) return;
    this.#clientRequests.delete(String(id));
    if (type === "ack") clientRequest.resolve(data);
    else clientRequest.reject(new Error(String(message ?? "refused")));
  }

  async #handleRequest(connection: FakeConnection, message: WireMessage): Promise<void> {
    const { id, type } = message;
    try {
      const next = this.#refusals.find((entry) => entry.type === type && entry.times > 0);
      if (next && next.times-- > 0) throw next.refusal;
      checkRequest(message);
      // Channel requests are answered at once, so that nothing comes between.
      const done = this.#performInChannel(connection, message);
      const { data, follow } = done instanceof Promise ? await done : done;
      if (id !== undefined) connection.send({ type: "ack", id, data });
      follow?.();
    } catch (error) {
      const { type: error_type, details } = error instanceof Refusal ? error : new Refusal("application_error");
      const refused = { error_type, message: error instanceof Error ? error.message : String(error), details };
      connection.send({ type: "error", id, ...refused, timestamp: this.#clock.now(), temporary: TEMPORARY_TYPES.includes(error_type) });
    }
  }

  #performInChannel(connection: FakeConnection, message: WireMessage): RequestResult | Promise<RequestResult> {
    const { type, id: _, ...fields } = message;
    if (!CHANNEL_TYPES.includes(type)) return this.#performOutsideOfChannels(connection, message, fields).then((data) => ({ data }));
    const channel = this.#channel(String(message["channel"]));
    const channels = this.#sessions.channelsOf(connection);
    if (type === "subscribe_channel") {
      if (channel.has(connection)) throw new Refusal("already_subscribed");
      channels?.set(channel.name, message["metadata"]);
      const { subscription, follow } = channel.add(connection, message["metadata"], message["recover"] as never);
      return { data: subscription, follow };
    }
    if (!channel.has(connection)) throw new Refusal("not_subscribed");
    if (type === "history") return { data: channel.history(message as object) };
    if (type === "channel_message") return { data: channel.take(connection, message) };
    if (type === "presence") return { data: channel.roster(message as object) };
    if (type === "client_event") channel.event(connection, message);
    else if (type === "update_presence") {
      channel.update(connection, message["metadata"]);
      channels?.set(channel.name, message["metadata"]);
    }
    else {
      channels?.delete(channel.name);
      channel.remove(connection);
    }
    return {};
  }

  async #performOutsideOfChannels(connection: FakeConnection, message: WireMessage, data: object): Promise<unknown> {
    const { user } = connection;
    const timestamp = this.#clock.now();
    if (DIRECT_TYPES.includes(message.type)) {
      const { type, to, room, key } = message;
      const directMessage = { type, from: user, ...(type === "group" && { room }), message: message["message"], timestamp };
      this.#keys.runOnce(user, key, () => {
        for (const other of type === "private" ? this.#connectionsOf(String(to)) : this.#sessions.connections) other.send(directMessage);
        return undefined;
      });
      return undefined;
    }
    if (message.type === "update_status") {
      const changed = [...this.#channels.values()].filter((channel) => channel.describe(user, data));
      if (changed.length === 0) throw new Refusal("not_subscribed", "not present");
      return undefined;
    }
    if (message.type === "refresh") return this.#refresh(connection, String(message["token"]));
    const handler = this.#handlers.get(message.type);
    if (!handler) throw new Refusal("unknown_event", `no answer to ${message.type}: call server.answer`);
    return handler(data as never, user);
  }

  /** Checks renewed credentials, which must belong to the same user. */
  #refresh({ url, user }: FakeConnection, token: string): unknown {
    const { authenticate } = this.#options;
    if (!authenticate) throw new Refusal("unknown_event", "this server does not offer this request");
    let renewed: string | undefined;
    try {
      renewed = authenticate({ url, query: queryOf(url), token });
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal("unauthorized", error instanceof Error ? error.message : "");
    }
    if (renewed !== user) throw new Refusal("unauthorized", "the token is another user's");
    return {};
  }
}

function queryOf(url: string): Record<string, string> {
  return Object.fromEntries(new URL(url).searchParams);
}

const CHANNEL_TYPES = [
  ...["subscribe_channel", "unsubscribe_channel", "channel_message", "history"],
  ...["presence", "update_presence", "client_event"],
];
const DIRECT_TYPES = ["private", "group", "broadcast"];
const TEMPORARY_TYPES = ["token_expired", "rate_limited", "timeout", "unavailable", "internal_error"];
const SILENT_LOGGER = { debug() {}, info() {}, warn() {}, error() {} };
