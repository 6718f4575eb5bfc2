// The client: what an application holds. It puts the parts together, and gives out what does not belong to a channel.

import { bindMembers } from "./bind.js";
import type { Channel, Gap, Published, PublishOptions } from "./channel.js";
import { type Codec, json } from "./codec.js";
import { Connection, type State, type TokenContext } from "./connection.js";
import type {
  AnyEvents,
  ChannelName,
  ChannelOf,
  ClientEventsOf,
  ClientMessages,
  Contract,
  QuestionData,
  QuestionName,
  QuestionReply,
  RequestData,
  RequestName,
  RequestReply,
} from "./contract.js";
import { type Environment, amount, defaultEnvironment, unique } from "./environment.js";
import type { RetryTerms, SessionInfo } from "./face.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import { Listeners, type Unsubscribe, on } from "./listeners.js";
import { type Logger, consoleLogger } from "./logger.js";
import { Outbox, type OutboxLimits, type RequestOptions } from "./outbox.js";
import { type ErrorMessage, type ServerMessage, type SessionMessage, typeOf } from "./protocol.js";
import { Session } from "./session.js";
import { type Shown, show } from "./shown.js";
import type { WebSocketConstructor } from "./socket.js";
import { positionOf } from "./filling.js";
import { type AbortSignalLike, type UrlLike, absolute, onAbort } from "./standard.js";

/** How a client behaves. Durations are milliseconds. */
export interface ClientOptions {
  /** The credentials, asked for before every attempt, and before they end. Sent beside the sub-protocol. */
  readonly getToken?: ((context: TokenContext) => string | undefined | Promise<string | undefined>) | undefined;
  /** How messages are written: `json`, the default, or `msgpack`. */
  readonly codec?: Codec | undefined;
  /** How long a request may take once it was sent. Default: 10 s. */
  readonly timeout?: number | undefined;
  /** How long a request may wait to be sent. Default: as long as the server keeps the session of a lost connection. */
  readonly ttl?: number | undefined;
  /** How long an attempt may take. Default: 10 s. */
  readonly connectTimeout?: number | undefined;
  /** How much may wait for an answer. */
  readonly outbox?: OutboxLimits | undefined;
  /** How to come back, whatever the server's policy says. */
  readonly retry?: RetryTerms | undefined;
  /** Another class of sockets. */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /** Another environment, for tests. */
  readonly environment?: Environment | undefined;
  /** Default: one warning for each series of attempts that fail, what else goes wrong, and that it is back, on the console. */
  readonly logger?: Logger | undefined;
}

/** How long to wait for the first connection. */
export interface ConnectOptions {
  /** Milliseconds. Default: for as long as the client tries. */
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignalLike | undefined;
}

/** Answers the server's questions of one name. */
export type ClientRequestHandler<Data, Reply> = (data: Data) => Reply | Promise<Reply>;

/** A connection to a server that lasts: it comes back by itself, with its channels, and misses nothing silently. */
export class Client<T extends Contract = Contract> {
  readonly #connection: Connection;
  readonly #session: Session;
  readonly #outbox: Outbox;
  readonly #listeners: Listeners;
  readonly #codec: Codec;
  /** Time, chance and network of this client, as its options have them. */
  readonly environment: Environment;
  readonly #logger: Logger;
  readonly #options: ClientOptions;
  readonly #questions = new Map<string, ClientRequestHandler<never, unknown>>();
  /** Keys of one client are unlike those of any other. */
  readonly #name: string;
  #keys = 0;
  /** The application closes the client: listeners need not be told. */
  #isClosing = false;
  #info: SessionInfo | undefined;
  #cancelRefresh = () => {};
  /** The credentials shown last, and whether those before them were none. */
  #shown: Shown & { wasGuest: boolean } = { isGuest: true, wasGuest: true, number: 0, isNew: false };

  /** `url` may be relative to the page. Nothing happens before {@link connect}. */
  constructor(url: string | UrlLike, options: ClientOptions = {}) {
    bindMembers(this);
    this.#options = options;
    this.#logger = options.logger ?? consoleLogger();
    const environment = (this.environment = options.environment ?? defaultEnvironment);
    this.#codec = options.codec ?? json;
    this.#listeners = new Listeners(this.#logger);
    this.#name = unique(environment);
    this.#outbox = new Outbox(this.#codec, environment, options);
    this.#session = new Session(
      {
        logger: this.#logger,
        environment,
        key: () => this.#key(),
        gap: (gap) => this.#listeners.emit("gap", gap),
        send: (frame) => this.#connection.send(frame),
      },
      this.#outbox,
    );
    this.#connection = new Connection(
      {
        url: () => absolute(url),
        codec: this.#codec,
        WebSocket: () => options.WebSocket ?? (globalThis.WebSocket as unknown as WebSocketConstructor | undefined),
        environment,
        logger: this.#logger,
        connectTimeout: amount(options.connectTimeout, 10_000),
        retry: options.retry,
        getToken: typeof options.getToken === "function" ? (context) => this.#show(context) : options.getToken,
      },
      {
        state: (state) => this.#changed(state),
        resume: () => this.#session.resume(),
        cannotResume: () => this.#session.forget(),
        session: (session, resume) => this.#began(session, resume),
        message: (message) => this.#receive(message),
        lost: (code) => this.#session.lost(code),
        pause: () => this.#outbox.pause(),
        unpause: () => this.#outbox.unpause(),
      },
    );
  }

  /** Tells Vue not to make a reactive proxy of it: there is nothing in it to watch. */
  get __v_skip(): true {
    return true;
  }

  /** How the connection is. */
  get state(): State {
    return this.#connection.state;
  }

  /** Who the server takes this client for; that of the last connection, where there is none. */
  get user(): string | undefined {
    return this.#info?.user;
  }

  /**
   * Connects, and stays connected. Resolves with the first connection; fails where the server will have none, where the
   * attempts are used up, or after `timeout`, when the client goes on trying until it is closed. Aborting `signal` closes
   * a client that has not connected yet.
   */
  connect({ timeout, signal }: ConnectOptions = {}): Promise<void> {
    if (signal?.aborted) return quiet(Promise.reject(signal.reason));
    const { promise: connected, resolve, reject } = deferred<void>();
    const end = (settle: () => void) => {
      for (const off of offs) off();
      settle();
    };
    const look = (state: State) => {
      if (state.name === "closed") {
        if (this.#isClosing) quiet(connected);
        end(() => reject(state.error));
      } else if (state.name === "connected") end(resolve);
    };
    const late = () => end(() => reject(new HauynaError("timeout", "not connected in time")));
    const offs = [
      timeout === undefined ? () => {} : this.environment.after(timeout, late),
      onAbort(signal, () => {
        quiet(connected);
        end(() => reject(signal?.reason));
        this.close();
      }),
    ];
    // Whoever is told that it begins may end it.
    this.#connection.open();
    offs.push(this.onState(look));
    look(this.state);
    return connected;
  }

  /** Ends the connection and the session. What was not answered fails. `code` is 1000, or of 4500 to 4999. */
  close(code = 1000, reason = ""): void {
    this.#isClosing = this.#outbox.isQuiet = true;
    this.#connection.close(code, reason);
    this.#isClosing = this.#outbox.isQuiet = false;
  }

  /** Tries to connect at once, without waiting for the next attempt. */
  reconnect(): void {
    this.#connection.reconnect();
  }

  onState(listener: (state: State) => void): Unsubscribe {
    return this.#listeners.add("state", listener as (value: never) => void);
  }

  /** Listens to what may be missing, in any channel. */
  onGap(listener: (gap: Gap) => void): Unsubscribe {
    return this.#listeners.add("gap", listener as (value: never) => void);
  }

  /** Listens to errors of the server that answer no request. */
  onError(listener: (error: ServerError) => void): Unsubscribe {
    return this.#listeners.add("error", listener as (value: never) => void);
  }

  /** The channel of this name; nothing is asked before it is subscribed to. */
  channel<const Name extends string>(name: ChannelName<T, Name> & Name): Channel<ChannelOf<T, Name>, ClientEventsOf<T, Name>>;
  /** Of content that the contract does not know: what it is has to be said. */
  channel<C extends object = never, E extends object = AnyEvents>(name: [C] extends [never] ? never : string): Channel<C, E>;
  channel(name: string): unknown {
    return this.#session.channel(name);
  }

  /** Listens to messages to this client: `private`, `group`, `broadcast`, or of the application's own type. */
  on<Type extends keyof ClientMessages<T> & string>(
    type: Type,
    listener: (message: ClientMessages<T>[Type] & { readonly type: Type }) => void,
  ): Unsubscribe {
    return this.#listeners.add(on(type), listener as (value: never) => void);
  }

  /** Answers the server's questions of one name, instead of the earlier handler. */
  onRequest<Name extends QuestionName<T>>(
    name: Name,
    handler: ClientRequestHandler<QuestionData<T, Name>, QuestionReply<T, Name>>,
  ): Unsubscribe {
    this.#questions.set(name, handler as ClientRequestHandler<never, unknown>);
    return () => {
      if (this.#questions.get(name) === handler) this.#questions.delete(name);
    };
  }

  /** Asks the application. Where the answer is lost with the connection, fails with `outcome_unknown` unless `repeatable`. */
  request<Name extends RequestName<T>>(
    name: Name,
    ...[data, options]: object extends RequestData<T, Name>
      ? [data?: RequestData<T, Name>, options?: RequestOptions]
      : [data: RequestData<T, Name>, options?: RequestOptions]
  ): Promise<RequestReply<T, Name>> {
    const message: ServerMessage = { ...(data as object | undefined), type: name };
    const retry = options?.repeatable ? "always" : "never";
    return this.#ask({ ...options, message, retry }) as Promise<RequestReply<T, Name>>;
  }

  /** Sends to every connection of a user. */
  sendToUser(to: string, message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "private", to, message }, options);
  }

  /** Sends to every connection of every member of a group. */
  sendToGroup(room: string, message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "group", room, message }, options);
  }

  /** Sends to everybody, where the application allows it. */
  broadcast(message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "broadcast", message }, options);
  }

  /** Changes this user's status, and further fields of their metadata, wherever they are present. */
  updateStatus(status: string, fields: object = {}, options?: RequestOptions): Promise<void> {
    const message = { ...fields, type: "update_status", status };
    return this.#ask({ ...options, message, retry: "always", take: () => {} }) as Promise<void>;
  }

  #publish(message: ServerMessage, { key, ...options }: Omit<PublishOptions, "echo"> = {}): Promise<Published> {
    const keyed = { ...message, key: key ?? this.#key() };
    return this.#ask({ ...options, message: keyed, retry: "keyed", take: positionOf }) as Promise<Published>;
  }

  #ask(asked: Parameters<Outbox["request"]>[0]): Promise<unknown> {
    return this.#outbox.request(asked);
  }

  #key(): string {
    return `${this.#name}-${++this.#keys}`;
  }

  #changed(state: State): void {
    if (state.name === "connected") {
      const shown = this.shown();
      const { isGuest, number } = shown;
      const isOther = this.#info && this.#info.user !== state.session.user;
      // Guests get another name with each session.
      if (isOther && !(isGuest && this.#shown.wasGuest)) this.#session.leave(number);
      this.#shown.wasGuest = isGuest;
      this.#shown.isNew = shown.isNew = false;
      this.#info = state.session;
    } else this.#cancelRefresh();
    if (state.name === "closed") {
      this.#session.close(state.error);
      // Replaced: what is still being asked for is for what was asked before.
      if (state.error.kind === "closed") this.#shown = { ...this.#shown, isNew: true };
    } else this.#outbox.closed = undefined;
    this.#listeners.emit("state", state, () => state === this.state);
  }

  /** Whether the session that has begun is one without credentials, and the last request before they were there. */
  protected shown(): Shown {
    return this.#shown;
  }

  /** The number of the last request. */
  protected number(): number {
    return this.#outbox.number;
  }

  async #show(context: TokenContext): Promise<string | undefined> {
    // Another one takes its place where another attempt asks before these are here.
    const shown = (this.#shown = { ...this.#shown });
    const token = await this.#options.getToken?.(context);
    show(shown, token, this.number());
    return token;
  }

  #began(session: SessionMessage, resume?: string | Uint8Array): void {
    this.#refreshBefore(session);
    this.#outbox.learn(session);
    this.#session.take(session, resume);
  }

  #receive(message: ServerMessage): void {
    switch (typeOf(message)) {
      case "ack":
      case "pong":
        this.#outbox.answer(message);
        return;
      case "error":
        if (!this.#outbox.answer(message)) this.#complain(message as unknown as ErrorMessage);
        return;
      case "request":
        return void this.#answer(message);
    }
    if (!this.#session.receive(message)) this.#listeners.emit(on(message.type), message);
  }

  #complain(message: ErrorMessage): void {
    this.#logger.warn("the server reports an error", { error: message.error_type, message: message.message });
    this.#listeners.emit("error", new ServerError(message));
  }

  /** Answers on the connection that asked, or not at all. */
  async #answer({ id, event, data }: ServerMessage): Promise<void> {
    const session = this.#info;
    const say = (answer: object) => {
      const frame = this.#codec.encode(answer);
      if (this.#outbox.isTooLarge(frame)) throw new Error("the answer is too large");
      if (this.#info === session) this.#outbox.tellFrame(frame);
    };
    const refuse = (error: unknown) => say({ type: "error", id, message: error instanceof Error ? error.message : String(error) });
    const handler = this.#questions.get(String(event));
    try {
      if (!handler) throw new Error("nobody answers this");
      say({ type: "ack", id, data: (await handler(data as never)) ?? null });
    } catch (error) {
      try {
        refuse(error);
      } catch (tooLarge) {
        refuse(tooLarge);
      }
    }
  }

  /** Renews the credentials when a tenth of their time is left. */
  #refreshBefore({ expires_at, expires_in }: Pick<SessionMessage, "expires_at" | "expires_in"> = {}): void {
    this.#cancelRefresh();
    const { getToken } = this.#options;
    // An older server tells only the moment, which the own clock may misjudge: it takes these credentials.
    const byClock = (expires_at ?? NaN) - this.environment.now();
    const left = expires_in ?? (byClock <= 0 ? UNKNOWN_LIFE : byClock);
    if (Number.isNaN(left) || !getToken) return;
    const session = this.#info;
    this.#cancelRefresh = this.environment.after(Math.max(SOONEST, left * 0.9), async () => {
      try {
        const token = await getToken({ isRefresh: true });
        if (session !== this.#info || token === undefined) return;
        const answer = await this.#ask({ message: { type: "refresh", token }, retry: "never" });
        this.#refreshBefore(answer as SessionMessage | undefined);
      } catch (error) {
        // Where this is the end of the credentials, the server closes, and the next attempt asks for new ones.
        this.#logger.warn("no new token", { error });
      }
    });
  }
}

/** A client of any contract: what functions take that work for all. */
export type AnyClient = Client<any>;

/** Milliseconds: however little is left, credentials are not renewed more often than this. */
const SOONEST = 1000;
/** Milliseconds that credentials are taken to live which seem to have ended already. */
const UNKNOWN_LIFE = 60_000;
