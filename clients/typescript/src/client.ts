// The client that an application creates. It connects the parts, and offers everything that does not belong
// to one channel.

import { bindMembers } from "./bind-members.js";
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
  ClientRequestData,
  ClientRequestName,
  ClientRequestReply,
  RequestData,
  RequestName,
  RequestReply,
} from "./contract.js";
import { type Environment, amount, defaultEnvironment, unique } from "./environment.js";
import type { SessionInfo } from "./conversions.js";
import { HauynaError, ServerError, deferred, quiet } from "./error.js";
import { Listeners, type Unsubscribe, on } from "./listeners.js";
import { type Logger, consoleLogger } from "./logger.js";
import { Outbox, type RequestOptions } from "./outbox.js";
import { type ErrorMessage, type ServerMessage, type SessionMessage, typeOf } from "./protocol.js";
import { Session } from "./session.js";
import { type ShownCredentials, noteCredentials } from "./credentials.js";
import type { WebSocketConstructor } from "./socket.js";
import { positionOf } from "./position.js";
import type { ClientOptions, ClientRequestHandler, ConnectOptions } from "./client-options.js";
import { type UrlLike, absolute, onAbort } from "./runtime-types.js";

export type { ClientOptions, ClientRequestHandler, ConnectOptions } from "./client-options.js";

/**
 * A lasting connection to a server: it reconnects by itself, restores its channels, and reports what may be
 * missing.
 */
export class Client<T extends Contract = Contract> {
  readonly #connection: Connection;
  readonly #session: Session;
  readonly #outbox: Outbox;
  readonly #listeners: Listeners;
  readonly #codec: Codec;
  /** The time, randomness and network of this client. */
  readonly environment: Environment;
  readonly #logger: Logger;
  readonly #options: ClientOptions;
  readonly #requestHandlers = new Map<string, ClientRequestHandler<never, unknown>>();
  /** A random prefix, which makes this client's keys different from those of all other clients. */
  readonly #keyPrefix: string;
  #keyCount = 0;
  /** Whether {@link close} is running: errors that it causes need not be reported. */
  #isClosing = false;
  #sessionInfo: SessionInfo | undefined;
  #cancelRefresh = () => {};
  /** The credentials that were shown last, and whether there were none before them. */
  #credentials: ShownCredentials & { wasGuest: boolean } = { isGuest: true, wasGuest: true, number: 0, isNew: false };

  /** Creates a client that is not connected. `url` may be relative to the page. */
  constructor(url: string | UrlLike, options: ClientOptions = {}) {
    bindMembers(this);
    this.#options = options;
    this.#logger = options.logger ?? consoleLogger();
    const environment = (this.environment = options.environment ?? defaultEnvironment);
    this.#codec = options.codec ?? json;
    this.#listeners = new Listeners(this.#logger);
    this.#keyPrefix = unique(environment);
    this.#outbox = new Outbox(this.#codec, environment, options);
    this.#session = new Session(
      {
        logger: this.#logger,
        environment,
        key: () => this.#nextKey(),
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
        getToken: typeof options.getToken === "function" ? (context) => this.#fetchToken(context) : options.getToken,
      },
      {
        state: (state) => this.#stateChanged(state),
        resume: () => this.#session.resume(),
        forgetToken: () => this.#session.forgetToken(),
        session: (session, resume) => this.#sessionBegan(session, resume),
        message: (message) => this.#receiveMessage(message),
        lost: (code) => this.#session.lost(code),
        pause: () => this.#outbox.pause(),
        unpause: () => this.#outbox.unpause(),
      },
    );
  }

  /** Prevents Vue from making a reactive proxy of this object. */
  get __v_skip(): true {
    return true;
  }

  /** The state of the connection. */
  get state(): State {
    return this.#connection.state;
  }

  /** The user as whom the server knows this client; without a connection, the user of the last one. */
  get user(): string | undefined {
    return this.#sessionInfo?.user;
  }

  /**
   * Connects, and stays connected. Resolves with the first connection. Rejects if the server refuses the
   * client, if the attempts are used up, or after `timeout`; after `timeout` the client continues to try
   * until it is closed. Aborting `signal` closes a client that is not connected yet.
   */
  connect({ timeout, signal }: ConnectOptions = {}): Promise<void> {
    if (signal?.aborted) return quiet(Promise.reject(signal.reason));
    const { promise: connected, resolve, reject } = deferred<void>();
    const end = (settle: () => void) => {
      for (const remove of removals) remove();
      settle();
    };
    const look = (state: State) => {
      if (state.name === "closed") {
        if (this.#isClosing) quiet(connected);
        end(() => reject(state.error));
      } else if (state.name === "connected") end(resolve);
    };
    const timedOut = () => end(() => reject(new HauynaError("timeout", "not connected in time")));
    const removals = [
      timeout === undefined ? () => {} : this.environment.after(timeout, timedOut),
      onAbort(signal, () => {
        quiet(connected);
        end(() => reject(signal?.reason));
        this.close();
      }),
    ];
    // A listener of the new state may close the client during this call.
    this.#connection.open();
    removals.push(this.onState(look));
    look(this.state);
    return connected;
  }

  /**
   * Ends the connection and the session. Without a connection the server is not told, and keeps the session
   * for its window. Requests without an answer fail. `code` is 1000, or from 4500 to 4999.
   */
  close(code = 1000, reason = ""): void {
    this.#isClosing = this.#outbox.isQuiet = true;
    this.#connection.close(code, reason);
    this.#isClosing = this.#outbox.isQuiet = false;
  }

  /** Starts an attempt to connect at once, without waiting for the next scheduled one. */
  reconnect(): void {
    this.#connection.reconnect();
  }

  onState(listener: (state: State) => void): Unsubscribe {
    return this.#listeners.add("state", listener as (value: never) => void);
  }

  /** Calls `listener` when messages of any channel may be missing. */
  onGap(listener: (gap: Gap) => void): Unsubscribe {
    return this.#listeners.add("gap", listener as (value: never) => void);
  }

  /** Calls `listener` for errors from the server that do not answer a request. */
  onError(listener: (error: ServerError) => void): Unsubscribe {
    return this.#listeners.add("error", listener as (value: never) => void);
  }

  /** Returns the channel of this name. Nothing is sent before `subscribe`. */
  channel<const Name extends string>(name: ChannelName<T, Name> & Name): Channel<ChannelOf<T, Name>, ClientEventsOf<T, Name>>;
  /** Returns a channel that the contract does not declare. The type argument states its content. */
  channel<C extends object = never, E extends object = AnyEvents>(name: [C] extends [never] ? never : string): Channel<C, E>;
  channel(name: string): unknown {
    return this.#session.channel(name);
  }

  /**
   * Calls `listener` for messages to this client: `private`, `group`, `broadcast`, or of one of the
   * application's own types.
   */
  on<Type extends keyof ClientMessages<T> & string>(
    type: Type,
    listener: (message: ClientMessages<T>[Type] & { readonly type: Type }) => void,
  ): Unsubscribe {
    return this.#listeners.add(on(type), listener as (value: never) => void);
  }

  /** Sets the handler of the client requests of this name, and replaces the earlier one. */
  onRequest<Name extends ClientRequestName<T>>(
    name: Name,
    handler: ClientRequestHandler<ClientRequestData<T, Name>, ClientRequestReply<T, Name>>,
  ): Unsubscribe {
    this.#requestHandlers.set(name, handler as ClientRequestHandler<never, unknown>);
    return () => {
      if (this.#requestHandlers.get(name) === handler) this.#requestHandlers.delete(name);
    };
  }

  /**
   * Sends a request to the application. Fields with the names `id` and `type` are `invalid`, because these
   * belong to the protocol. If the answer is lost with the connection, it fails with `outcome_unknown` unless
   * it is `repeatable`.
   */
  request<Name extends RequestName<T>>(
    name: Name,
    ...[data, options]: object extends RequestData<T, Name>
      ? [data?: RequestData<T, Name>, options?: RequestOptions]
      : [data: RequestData<T, Name>, options?: RequestOptions]
  ): Promise<RequestReply<T, Name>> {
    const retry = options?.repeatable ? "always" : "never";
    return this.#sendRequest({ ...options, message: { type: name }, fields: data, retry }) as Promise<RequestReply<T, Name>>;
  }

  /** Sends a message to every connection of a user. */
  sendToUser(to: string, message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "private", to, message }, options);
  }

  /** Sends a message to every connection of every member of a group. */
  sendToGroup(room: string, message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "group", room, message }, options);
  }

  /** Sends a message to everybody, if the application allows it. */
  broadcast(message: unknown, options?: Omit<PublishOptions, "echo">): Promise<Published> {
    return this.#publish({ type: "broadcast", message }, options);
  }

  /**
   * Changes this user's status and the given fields of the metadata, in every channel where the user is
   * present.
   */
  updateStatus(status: string, fields: object = {}, options?: RequestOptions): Promise<void> {
    const message = { type: "update_status", status };
    return this.#sendRequest({ ...options, message, fields, retry: "always", take: () => {} }) as Promise<void>;
  }

  #publish(message: ServerMessage, { key, ...options }: Omit<PublishOptions, "echo"> = {}): Promise<Published> {
    const keyed = { ...message, key: key ?? this.#nextKey() };
    return this.#sendRequest({ ...options, message: keyed, retry: "keyed", take: positionOf }) as Promise<Published>;
  }

  #sendRequest(request: Parameters<Outbox["request"]>[0]): Promise<unknown> {
    return this.#outbox.request(request);
  }

  #nextKey(): string {
    return `${this.#keyPrefix}-${++this.#keyCount}`;
  }

  #stateChanged(state: State): void {
    if (state.name === "connected") {
      const shown = this.shown();
      const { isGuest, number } = shown;
      const isOtherUser = this.#sessionInfo && this.#sessionInfo.user !== state.session.user;
      // Users without credentials get another name with each session.
      if (isOtherUser && !(isGuest && this.#credentials.wasGuest)) this.#session.leave(number);
      this.#credentials.wasGuest = isGuest;
      this.#credentials.isNew = shown.isNew = false;
      this.#sessionInfo = state.session;
    } else this.#cancelRefresh();
    if (state.name === "closed") {
      this.#session.close(state.error);
      // The object is replaced, because pending credentials belong to earlier requests.
      if (state.error.kind === "closed") this.#credentials = { ...this.#credentials, isNew: true };
    } else this.#outbox.closed = undefined;
    this.#listeners.emit("state", state, () => state === this.state);
  }

  /** Returns the credentials with which the current session was opened. */
  protected shown(): ShownCredentials {
    return this.#credentials;
  }

  /** Returns the number of the last request. */
  protected number(): number {
    return this.#outbox.number;
  }

  async #fetchToken(context: TokenContext): Promise<string | undefined> {
    // Each attempt has its own record, because a later attempt may start before this one has its credentials.
    const credentials = (this.#credentials = { ...this.#credentials });
    const token = await this.#options.getToken?.(context);
    noteCredentials(credentials, token, this.number());
    return token;
  }

  #sessionBegan(session: SessionMessage, resume?: string | Uint8Array): void {
    this.#scheduleRefresh(session);
    this.#outbox.limit(session);
    this.#session.start(session, resume);
  }

  #receiveMessage(message: ServerMessage): void {
    switch (typeOf(message)) {
      case "ack":
      case "pong":
        this.#outbox.answer(message);
        return;
      case "error":
        if (!this.#outbox.answer(message)) this.#reportError(message as unknown as ErrorMessage);
        return;
      case "request":
        return void this.#answerClientRequest(message);
    }
    if (!this.#session.receive(message)) this.#listeners.emit(on(message.type), message);
  }

  #reportError(message: ErrorMessage): void {
    this.#logger.warn("the server reports an error", { error: message.error_type, message: message.message });
    this.#listeners.emit("error", new ServerError(message));
  }

  /** Answers a client request, only on the connection on which it arrived. */
  async #answerClientRequest({ id, event, data }: ServerMessage): Promise<void> {
    const session = this.#sessionInfo;
    const send = (answer: object) => {
      const frame = this.#codec.encode(answer);
      if (this.#outbox.isTooLarge(frame)) throw new Error("the answer is too large");
      if (this.#sessionInfo === session) this.#outbox.sendFrame(frame);
    };
    const refuse = (error: unknown) => send({ type: "error", id, message: error instanceof Error ? error.message : String(error) });
    const handler = this.#requestHandlers.get(String(event));
    try {
      if (!handler) throw new Error("nobody answers this");
      send({ type: "ack", id, data: (await handler(data as never)) ?? null });
    } catch (error) {
      try {
        refuse(error);
      } catch (tooLarge) {
        refuse(tooLarge);
      }
    }
  }

  /** Renews the credentials when a tenth of their lifetime is left. */
  #scheduleRefresh({ expires_at, expires_in }: Pick<SessionMessage, "expires_at" | "expires_in"> = {}): void {
    this.#cancelRefresh();
    const { getToken } = this.#options;
    // An older server sends only the time of expiry, and the local clock may be wrong. The credentials are
    // valid, because the server accepted them.
    const untilExpiry = (expires_at ?? NaN) - this.environment.now();
    const lifetime = expires_in ?? (untilExpiry <= 0 ? ASSUMED_LIFETIME : untilExpiry);
    if (Number.isNaN(lifetime) || !getToken) return;
    const session = this.#sessionInfo;
    this.#cancelRefresh = this.environment.after(Math.max(MIN_REFRESH_DELAY, lifetime * 0.9), async () => {
      try {
        const token = await getToken({ isRefresh: true });
        if (session !== this.#sessionInfo || token === undefined) return;
        const answer = await this.#sendRequest({ message: { type: "refresh", token }, retry: "never" });
        this.#scheduleRefresh(answer as SessionMessage | undefined);
      } catch (error) {
        // If the credentials expire, the server closes the connection, and the next attempt asks for new
        // ones.
        this.#logger.warn("no new token", { error });
      }
    });
  }
}

/** A client of any contract, as the parameter of general functions. */
export type AnyClient = Client<any>;

/** Milliseconds: the shortest interval between two renewals of the credentials. */
const MIN_REFRESH_DELAY = 1000;
/** Milliseconds: the assumed lifetime of credentials that have expired by the local clock. */
const ASSUMED_LIFETIME = 60_000;
