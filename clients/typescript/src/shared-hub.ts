// One connection of the worker, and the pages that share it. For each page it acts as the server.

import { Client, type ClientOptions, type Codec, type Contract, ServerError, type State, json, msgpack } from "hauyna";
import { size } from "./codec.js";
import type { SharedHost } from "./shared-host.js";
import type { FromPage, Settings } from "./shared-messages.js";
import type { Offer, Pending, Verdict } from "./shared-pages.js";
import { Requests } from "./shared-requests.js";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/** The connection, and the pages that share it. */
export class Hub {
  readonly #settings: Settings;
  readonly #host: SharedHost;
  readonly #codec: Codec;
  readonly #tabs = new Set<Tab>();
  readonly #requests: Requests;
  /** The names of the client requests that pages answer. */
  readonly #forwardedNames = new Set<string>();
  #client: Client | undefined;
  /** The credentials and the user of the connection. */
  #token: string | undefined;
  #user: string | undefined;
  /** The credentials of the latest attempt. */
  #latestOffer: Offer = {};
  /** Whether the last reported state was `connected`. */
  #wasConnected = false;
  /** Whether the new session lacks something that the previous one had. */
  #isIncomplete = false;
  /** The requests without an answer, also those of pages that are gone. */
  readonly #pending = new Set<Pending>();
  /** The size of the `resume` of the latest attempt, if it has one. */
  #resumeSize = 0;
  /** The size of the largest other frame on this connection, or of a request whose answer was late. */
  #largestOther = 0;
  /** Called when the last page is gone. */
  readonly #onEmpty: () => void;

  constructor(settings: Settings, host: SharedHost, emptied: () => void) {
    this.#settings = settings;
    this.#host = host;
    this.#onEmpty = emptied;
    this.#codec = settings.protocol === msgpack.protocol ? msgpack : json;
    this.#requests = new Requests(this.#tabs, (delay, run) => host.environment.after(delay, run));
  }

  // Messages of pages

  join(tab: Tab): void {
    this.#tabs.add(tab);
  }

  receive(tab: Tab, message: FromPage): void {
    if (message.say === "open") this.#openSocket(tab, message.socket);
    else if (message.say === "close") this.#closeSocket(tab, message.socket);
    else if (message.say === "frame") this.#handleFrame(tab, message.socket, message.frame);
    else if (message.say === "alive") tab.post({ say: "alive" });
    else if (message.say === "token") tab.receiveToken(message.id, message);
    else if (message.say === "retry" && this.#client) connectNow(this.#client);
  }

  /** Removes a page that is gone. */
  leave(tab: Tab): void {
    tab.currentSocket = tab.waitingSocket = undefined;
    this.#tabs.delete(tab);
    this.#releaseTab(tab);
    if (this.#tabs.size === 0) this.#onEmpty();
  }

  #openSocket(tab: Tab, socket: number): void {
    tab.isWanted = true;
    tab.waitingSocket = socket;
    const { refusal } = tab;
    tab.refusal = undefined;
    if (refusal) return tab.closeWaiting(refusal.code, refusal.reason);
    // A page connects by itself only when the worker has a connection, so the application must have asked for
    // this.
    if (this.#client?.state.name !== "connected") this.#forgetCredentials(tab);
    const client = (this.#client ??= this.#createClient());
    const { state } = client;
    tab.post({ say: "network", isThere: state.name === "connected" });
    if (state.name === "connected") return void this.#startSession(tab, state);
    connectNow(client);
  }

  /**
   * Handles that the page's client was told to connect again, or was closed: another user may have signed in.
   */
  #forgetCredentials(tab: Tab): void {
    tab.forgetCredentials();
    if (this.#latestOffer.tab === tab) this.#latestOffer.tab = undefined;
  }

  /** Gives the waiting socket its session, unless the page belongs to another user. */
  async #startSession(tab: Tab, state: State & { name: "connected" }): Promise<void> {
    const { waitingSocket } = tab;
    if (waitingSocket === undefined) return;
    const { connectionId, user, maxMessage } = state.session;
    if (this.#settings.hasToken && tab.verifiedUser !== user) {
      const verdict = await this.#compareCredentials(tab);
      // The change that has happened meanwhile starts this method again.
      if (tab.waitingSocket !== waitingSocket || this.#client?.state !== state) return;
      if (verdict === "unknown") return tab.closeWaiting(LOST, "no token");
      if (verdict === "other") return tab.post({ say: "alone" });
      tab.verifiedUser = user;
    }
    tab.startSession(waitingSocket);
    const limits = maxMessage === undefined ? {} : { limits: { max_message: maxMessage } };
    tab.send({ type: "session", connection_id: connectionId, user, resumed: false, heartbeat: HEARTBEAT, ...limits });
    this.#requests.announceServed(tab, this.#client);
  }

  /**
   * Whether the page's credentials belong to the connection's user. The server decides, because it renews
   * only that user's.
   */
  async #compareCredentials(tab: Tab): Promise<Verdict> {
    const { token, hasFailed } = await tab.requestToken(false);
    if (hasFailed || !this.#client) return "unknown";
    if (token === this.#token) return "same";
    if (token === undefined) return "other";
    try {
      await this.#client.request("refresh", { token } as never);
      this.#token = token;
      return "same";
    } catch (error) {
      if (!(error instanceof ServerError) || error.temporary) return "unknown";
      // A server that does not renew credentials cannot check them.
      return error.type === "unknown_event" ? "same" : "other";
    }
  }

  #closeSocket(tab: Tab, number: number): void {
    this.#forgetCredentials(tab);
    if (tab.waitingSocket === number) tab.waitingSocket = undefined;
    if (tab.currentSocket === number) tab.endSession(LOST, "");
    // The page's client reconnects, unless it was closed.
    if (number !== 0) return;
    tab.currentSocket = tab.waitingSocket = undefined;
    this.#releaseTab(tab);
  }

  #releaseTab(tab: Tab): void {
    tab.isWanted = false;
    tab.refusal = undefined;
    void this.#requests.releaseTab(tab);
    if (this.#activeTabs.length === 0) this.#closeConnection();
  }

  /** Closes the connection, and forgets its state. */
  #closeConnection(): void {
    const client = this.#client;
    this.#client = this.#token = this.#user = undefined;
    this.#wasConnected = false;
    this.#latestOffer = {};
    client?.close();
    this.#requests.clear();
    this.#forwardedNames.clear();
  }

  get #activeTabs(): Tab[] {
    return [...this.#tabs].filter(({ isWanted }) => isWanted);
  }

  #handleFrame(tab: Tab, number: number, frame: string | Uint8Array): void {
    if (tab.currentSocket !== number) return;
    const message = read(this.#codec, frame);
    if (!message) {
      tab.endSession(LOST, "unreadable");
      return tab.post({ say: "network", isThere: true });
    }
    if (/^(client_event|ack|error)$/.test(message.type)) this.#largestOther = Math.max(this.#largestOther, size(frame));
    if (message.type === "ping") tab.send({ type: "pong", id: message.id });
    else if (message.type !== "resume" && !tab.takeAnswer(message) && this.#client) {
      const request = { tab, socket: number, id: message.id, bytes: size(frame) };
      this.#pending.add(request);
      void this.#requests.answer(this.#client, tab, message).then((isLate) => {
        this.#pending.delete(request);
        if (isLate) this.#largestOther = Math.max(this.#largestOther, request.bytes);
      });
    }
  }

  // The server

  #createClient(): Client {
    const { url, hasToken, retry, timeout, connectTimeout } = this.#settings;
    const { environment, WebSocket } = this.#host;
    const codec: Codec = {
      ...this.#codec,
      encode: (message) => {
        const frame = this.#codec.encode(message);
        if ((message as Wire).type === "resume") this.#resumeSize = size(frame);
        return frame;
      },
      decode: (data) => {
        const message = this.#codec.decode(data);
        // The worker's own client handles data that is not a message.
        if (typeof message === "object" && message !== null && typeof (message as Wire).type === "string") this.#inspectMessage(message as Wire);
        return message;
      },
    };
    const getToken: ClientOptions["getToken"] = hasToken ? ({ isRefresh }) => this.#collectToken(isRefresh) : undefined;
    // Each page limits its own requests.
    const outbox = { count: Infinity, bytes: Infinity };
    const client = new Client<Contract>(url, { codec, retry, timeout, connectTimeout, getToken, outbox, environment, WebSocket });
    client.onState((state) => this.#stateChanged(client, state));
    void client.connect().catch(() => {});
    return client;
  }

  #stateChanged(client: Client, state: State): void {
    if (client !== this.#client) return;
    const isConnected = state.name === "connected";
    const isAttempt = !this.#wasConnected;
    this.#wasConnected = isConnected;
    if (state.name === "closed") return this.#clientClosed(client, state, isAttempt);
    if ("retryAt" in state) [this.#latestOffer, this.#resumeSize] = [{}, 0]; // the attempt is over
    if (isConnected) {
      // The server may have answered before it has read `resume`.
      [this.#largestOther, this.#resumeSize] = [this.#resumeSize, 0];
      const { token, tab } = this.#latestOffer;
      const { user } = state.session;
      if (tab) {
        tab.verifiedUser = user;
        tab.timesAsked = 0;
      }
      const isGuest = token === undefined && this.#token === undefined;
      if (this.#user !== undefined && this.#user !== user && !isGuest) return this.#startForNewUser();
      this.#user = user;
      this.#token = token;
    }
    if ("code" in state && state.code === MESSAGE_TOO_BIG) this.#refuseLargestRequest();
    for (const tab of this.#activeTabs) {
      // Pages keep their sockets when the connection moves. If something may be missing, each page reconnects
      // and recovers.
      if (isConnected && !this.#isIncomplete) tab.post({ say: "network", isThere: true });
      else {
        tab.post({ say: "network", isThere: false });
        tab.endSession(LOST, isConnected ? "moved" : (state.reason ?? ""));
        if (isConnected) tab.post({ say: "network", isThere: true });
      }
      if (isConnected) void this.#startSession(tab, state);
    }
  }

  /**
   * Refuses the largest request after the connection ended because a message was too large, if its page still
   * waits for it. A request that its page has repeated is pending twice.
   */
  #refuseLargestRequest(): void {
    const largest = Math.max(...[...this.#pending].map(({ bytes }) => bytes));
    const refusal = { error_type: "payload_too_large", message: "the message is too large", temporary: false };
    for (const { tab, socket, id, bytes } of this.#pending) {
      const isTooLarge = bytes === largest && bytes > this.#largestOther;
      if (isTooLarge && tab.currentSocket === socket) tab.send({ type: "error", id, timestamp: Date.now(), ...refusal });
    }
  }

  /**
   * Handles that the client has stopped. If one page's credentials are the reason, only that page is refused,
   * and the client tries those of the others.
   */
  #clientClosed(client: Client, { error, code = LOST, reason }: State & { name: "closed" }, isAttempt: boolean): void {
    const { token, tab } = this.#latestOffer;
    // A page that reconnects would make the worker try again.
    if (error.kind === "gave_up" || !isAttempt || token === undefined) {
      for (const each of this.#activeTabs) each.refuseConnection(error.kind === "gave_up" ? GAVE_UP : code, reason);
      return;
    }
    this.#latestOffer = {};
    if (tab) {
      this.#releaseTab(tab);
      tab.refuseConnection(code, reason);
    }
    if (client === this.#client) connectNow(client);
  }

  /**
   * Connects again without anything of the previous user, because the connection belongs to another user now.
   */
  #startForNewUser(): void {
    this.#closeConnection();
    for (const tab of this.#activeTabs) {
      tab.post({ say: "network", isThere: false });
      tab.endSession(LOST, "another user");
      void tab.endShares();
    }
    this.#client = this.#createClient();
  }

  /**
   * Asks the pages for credentials until one of them gives some. Pages that were asked least often since
   * their credentials last led to a connection come first, and among them the newest, so that no page can
   * block the others. A frozen page delays them only for a moment; a late answer is ignored. Only pages that
   * share the connection can renew its credentials.
   */
  #collectToken(isRefresh: boolean): Promise<string | undefined> {
    const user = this.#client?.user;
    const tabs = this.#activeTabs.filter(({ verifiedUser }) => !isRefresh || verifiedUser === user);
    if (!isRefresh) tabs.sort((one, other) => other.timesAsked - one.timesAsked);
    let pendingCount = tabs.length;
    let isAnonymous = false;
    const offer: Offer = {};
    if (!isRefresh) this.#latestOffer = offer;
    const isOver = () => !isRefresh && offer !== this.#latestOffer;
    return new Promise((resolve, reject) => {
      const askNextTab = () => {
        // The next attempt asks on its own, and a page answers only the latest request for credentials.
        if (isOver()) return;
        const tab = offer.token === undefined ? tabs.pop() : undefined;
        if (!tab) return;
        if (!isRefresh) tab.timesAsked++;
        let isNextAsked = false;
        const next = () => {
          if (!isNextAsked) askNextTab();
          isNextAsked = true;
        };
        const cancel = this.#host.environment.after(TOKEN_TIMEOUT, next);
        void tab.requestToken(isRefresh).then(({ token, hasFailed }) => {
          cancel();
          if (offer.token !== undefined) return;
          if (token !== undefined) {
            // The answer was slow, but the page is not frozen: the next attempt asks it first.
            if (isOver()) tab.timesAsked = 0;
            Object.assign(offer, { token, tab });
            return resolve(token);
          }
          isAnonymous ||= !hasFailed;
          if (--pendingCount > 0) return next();
          // If every page failed, a connection without credentials would belong to another user.
          if (isAnonymous) resolve(undefined);
          else reject(new Error("no page gave a token"));
        });
      };
      if (pendingCount === 0) reject(new Error("there is no page"));
      askNextTab();
    });
  }

  /** Handles a message of the server before the worker's own client does. */
  #inspectMessage(message: Wire): void {
    try {
      if (message.type === "session") this.#isIncomplete = this.#requests.handleSession(message);
      else if (message.type === "request") this.#forwardClientRequests(String(message["event"]));
      else this.#requests.forward(message, this.#client);
    } catch (error) {
      // An exception would make the client treat the message as unreadable, and close the connection.
      console.error("not passed on", error);
    }
  }

  /**
   * Lets the pages answer client requests of this name. The first answer counts; a refusal counts only if no
   * page answers.
   */
  #forwardClientRequests(event: string): void {
    if (this.#forwardedNames.has(event) || !this.#client) return;
    this.#forwardedNames.add(event);
    this.#client.onRequest(event, async (data) => {
      const answers = [...this.#tabs].map((tab) => tab.sendClientRequest(event, data));
      return Promise.any(answers).catch(({ errors }) => Promise.reject(errors[0] ?? new Error("nobody answers this")));
    });
  }
}

/** Returns the message in a frame, or undefined if there is none. */
function read(codec: Codec, frame: string | Uint8Array): Wire | undefined {
  try {
    const message = codec.decode(typeof frame === "string" ? frame : frame.slice().buffer) as Wire | null;
    return typeof message?.type === "string" ? message : undefined;
  } catch {
    return undefined;
  }
}

/** Makes a client connect now that waits for its next attempt or is closed. */
function connectNow(client: Client): void {
  const { state } = client;
  if (state.name === "closed") void client.connect().catch(() => {});
  else if (state.name !== "connected" && state.retryAt !== undefined) client.reconnect();
}

/** Ports lose nothing, but the worker may end. */
const HEARTBEAT = { interval: 60_000, timeout: 120_000 };
/**
 * The close code for pages whose worker has used up its attempts. They do not reconnect until the application
 * asks for it.
 */
const GAVE_UP = 4500;
/** The close code of a connection that sent a too large message. */
const MESSAGE_TOO_BIG = 1009;
/** Milliseconds after which the next page is asked for credentials as well. */
const TOKEN_TIMEOUT = 1_000;
