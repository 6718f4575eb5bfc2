// One connection of the worker, and the pages that share it. For each page it acts as the server.

import { Client, type ClientOptions, type Codec, type Contract, ServerError, type State, json, msgpack } from "hauyna";
import { size } from "./codec.js";
import type { SharedHost } from "./shared-host.js";
import type { FromPage, Settings } from "./shared-port.js";
import { Requests } from "./shared-requests.js";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/**
 * The result of comparing a page's credentials with the connection's user. `unknown`: the page gave none, or
 * the server could not check them.
 */
type Verdict = "same" | "other" | "unknown";

/** The credentials of an attempt, and the page that gave them. */
interface Offer {
  token?: string;
  tab?: Tab | undefined;
}

/** The connection, and the pages that share it. */
export class Hub {
  readonly #settings: Settings;
  readonly #host: SharedHost;
  readonly #codec: Codec;
  readonly #tabs = new Set<Tab>();
  readonly #requests: Requests;
  /** The names of the client requests that pages answer. */
  readonly #questions = new Set<string>();
  #client: Client | undefined;
  /** The credentials and the user of the connection. */
  #shown: string | undefined;
  #user: string | undefined;
  /** The credentials of the latest attempt. */
  #offer: Offer = {};
  /** Whether the last reported state was `connected`. */
  #wasConnected = false;
  /** Whether the new session lacks something that the previous one had. */
  #isIncomplete = false;
  /** The size of the largest frame on this connection that was not a request of a page. */
  #told = 0;
  /** Called when the last page is gone. */
  readonly #emptied: () => void;

  constructor(settings: Settings, host: SharedHost, emptied: () => void) {
    this.#settings = settings;
    this.#host = host;
    this.#emptied = emptied;
    this.#codec = settings.protocol === msgpack.protocol ? msgpack : json;
    this.#requests = new Requests(this.#tabs, (delay, run) => host.environment.after(delay, run));
  }

  // Messages of pages

  join(tab: Tab): void {
    this.#tabs.add(tab);
  }

  hear(tab: Tab, message: FromPage): void {
    if (message.say === "open") this.#open(tab, message.socket);
    else if (message.say === "close") this.#close(tab, message.socket);
    else if (message.say === "frame") this.#frame(tab, message.socket, message.frame);
    else if (message.say === "alive") tab.say({ say: "alive" });
    else if (message.say === "token") tab.give(message.id, message);
    else if (message.say === "retry" && this.#client) hurry(this.#client);
  }

  /** Removes a page that is gone. */
  leave(tab: Tab): void {
    tab.socket = tab.waiting = undefined;
    this.#tabs.delete(tab);
    this.#giveUp(tab);
    if (this.#tabs.size === 0) this.#emptied();
  }

  #open(tab: Tab, socket: number): void {
    tab.isWanted = true;
    tab.waiting = socket;
    const { refusal } = tab;
    tab.refusal = undefined;
    if (refusal) return tab.turnAway(refusal.code, refusal.reason);
    // A page connects by itself only when the worker has a connection, so the application must have asked for
    // this.
    if (this.#client?.state.name !== "connected") this.#doubt(tab);
    const client = (this.#client ??= this.#connect());
    const { state } = client;
    tab.say({ say: "network", isThere: state.name === "connected" });
    if (state.name === "connected") return void this.#begin(tab, state);
    hurry(client);
  }

  /**
   * Handles that the page's client was told to connect again, or was closed: another user may have signed in.
   */
  #doubt(tab: Tab): void {
    tab.doubt();
    if (this.#offer.tab === tab) this.#offer.tab = undefined;
  }

  /** Gives the waiting socket its session, unless the page belongs to another user. */
  async #begin(tab: Tab, state: State & { name: "connected" }): Promise<void> {
    const { waiting } = tab;
    if (waiting === undefined) return;
    const { connectionId, user, maxMessage } = state.session;
    if (this.#settings.hasToken && tab.vouchedFor !== user) {
      const verdict = await this.#judge(tab);
      // The change that has happened meanwhile starts this method again.
      if (tab.waiting !== waiting || this.#client?.state !== state) return;
      if (verdict === "unknown") return tab.turnAway(LOST, "no token");
      if (verdict === "other") return tab.say({ say: "alone" });
      tab.vouchedFor = user;
    }
    tab.begin(waiting);
    const limits = maxMessage === undefined ? {} : { limits: { max_message: maxMessage } };
    tab.tell({ type: "session", connection_id: connectionId, user, resumed: false, heartbeat: HEARTBEAT, ...limits });
    this.#requests.introduce(tab, this.#client);
  }

  /**
   * Whether the page's credentials belong to the connection's user. The server decides, because it renews
   * only that user's.
   */
  async #judge(tab: Tab): Promise<Verdict> {
    const { token, hasFailed } = await tab.token(false);
    if (hasFailed || !this.#client) return "unknown";
    if (token === this.#shown) return "same";
    if (token === undefined) return "other";
    try {
      await this.#client.request("refresh", { token } as never);
      this.#shown = token;
      return "same";
    } catch (error) {
      if (!(error instanceof ServerError) || error.temporary) return "unknown";
      // A server that does not renew credentials cannot check them.
      return error.type === "unknown_event" ? "same" : "other";
    }
  }

  #close(tab: Tab, number: number): void {
    this.#doubt(tab);
    if (tab.waiting === number) tab.waiting = undefined;
    if (tab.socket === number) tab.end(LOST, "");
    // The page's client reconnects, unless it was closed.
    if (number !== 0) return;
    tab.socket = tab.waiting = undefined;
    this.#giveUp(tab);
  }

  #giveUp(tab: Tab): void {
    tab.isWanted = false;
    tab.refusal = undefined;
    void this.#requests.leave(tab);
    if (this.#wanted.length === 0) this.#end();
  }

  /** Closes the connection, and forgets its state. */
  #end(): void {
    const client = this.#client;
    this.#client = this.#shown = this.#user = undefined;
    this.#wasConnected = false;
    this.#offer = {};
    client?.close();
    this.#requests.clear();
    this.#questions.clear();
  }

  get #wanted(): Tab[] {
    return [...this.#tabs].filter(({ isWanted }) => isWanted);
  }

  #frame(tab: Tab, number: number, frame: string | Uint8Array): void {
    if (tab.socket !== number) return;
    const message = read(this.#codec, frame);
    if (!message) {
      tab.end(LOST, "unreadable");
      return tab.say({ say: "network", isThere: true });
    }
    if (/^(client_event|ack|error)$/.test(message.type)) this.#told = Math.max(this.#told, size(frame));
    if (message.type === "ping") tab.tell({ type: "pong", id: message.id });
    else if (message.type !== "resume" && !tab.answered(message) && this.#client) {
      const request = { frame };
      tab.requests.add(request);
      void this.#requests.perform(this.#client, tab, message).then(() => tab.requests.delete(request));
    }
  }

  // The server

  #connect(): Client {
    const { url, hasToken, retry, timeout, connectTimeout } = this.#settings;
    const { environment, WebSocket } = this.#host;
    const codec: Codec = {
      ...this.#codec,
      decode: (data) => {
        const message = this.#codec.decode(data);
        // The worker's own client handles data that is not a message.
        if (typeof message === "object" && message !== null && typeof (message as Wire).type === "string") this.#look(message as Wire);
        return message;
      },
    };
    const getToken: ClientOptions["getToken"] = hasToken ? ({ isRefresh }) => this.#token(isRefresh) : undefined;
    // Each page limits its own requests.
    const outbox = { count: Infinity, bytes: Infinity };
    const client = new Client<Contract>(url, { codec, retry, timeout, connectTimeout, getToken, outbox, environment, WebSocket });
    client.onState((state) => this.#changed(client, state));
    void client.connect().catch(() => {});
    return client;
  }

  #changed(client: Client, state: State): void {
    if (client !== this.#client) return;
    const isConnected = state.name === "connected";
    const isAttempt = !this.#wasConnected;
    this.#wasConnected = isConnected;
    if (state.name === "closed") return this.#closed(client, state, isAttempt);
    if ("retryAt" in state) this.#offer = {}; // the attempt is over
    if (isConnected) {
      this.#told = 0;
      const { token, tab } = this.#offer;
      const { user } = state.session;
      if (tab) {
        tab.vouchedFor = user;
        tab.timesAsked = 0;
      }
      const isGuest = token === undefined && this.#shown === undefined;
      if (this.#user !== undefined && this.#user !== user && !isGuest) return this.#startAnew();
      this.#user = user;
      this.#shown = token;
    }
    const largest = "code" in state && state.code === MESSAGE_TOO_BIG ? this.#largest() : undefined;
    for (const tab of this.#wanted) {
      // Pages keep their sockets when the connection moves. If something may be missing, each page reconnects
      // and recovers.
      if (isConnected && !this.#isIncomplete) tab.say({ say: "network", isThere: true });
      else {
        tab.say({ say: "network", isThere: false });
        // The page that sent the too large request fails it.
        tab.end(tab === largest ? MESSAGE_TOO_BIG : LOST, isConnected ? "moved" : (state.reason ?? ""));
        if (isConnected) tab.say({ say: "network", isThere: true });
      }
      if (isConnected) void this.#begin(tab, state);
    }
  }

  /** Returns the page with the largest unanswered request. */
  #largest(): Tab | undefined {
    const all = this.#wanted.flatMap((tab) => [...tab.requests].map(({ frame }) => ({ tab, bytes: size(frame) })));
    return all.filter(({ bytes }) => bytes > this.#told).sort((one, other) => other.bytes - one.bytes)[0]?.tab;
  }

  /**
   * Handles that the client has stopped. If one page's credentials are the reason, only that page is refused,
   * and the client tries those of the others.
   */
  #closed(client: Client, { error, code = LOST, reason }: State & { name: "closed" }, isAttempt: boolean): void {
    const { token, tab } = this.#offer;
    // A page that reconnects would make the worker try again.
    if (error.kind === "gave_up" || !isAttempt || token === undefined) {
      for (const each of this.#wanted) each.refuse(error.kind === "gave_up" ? GAVE_UP : code, reason);
      return;
    }
    this.#offer = {};
    if (tab) {
      this.#giveUp(tab);
      tab.refuse(code, reason);
    }
    if (client === this.#client) hurry(client);
  }

  /**
   * Connects again without anything of the previous user, because the connection belongs to another user now.
   */
  #startAnew(): void {
    this.#end();
    for (const tab of this.#wanted) {
      tab.say({ say: "network", isThere: false });
      tab.end(LOST, "another user");
      void tab.release();
    }
    this.#client = this.#connect();
  }

  /**
   * Asks the pages for credentials until one of them gives some. Pages that were asked least often since
   * their credentials last led to a connection come first, and among them the newest, so that no page can
   * block the others. A frozen page delays them only for a moment; a late answer is ignored. Only pages that
   * share the connection can renew its credentials.
   */
  #token(isRefresh: boolean): Promise<string | undefined> {
    const user = this.#client?.user;
    const tabs = this.#wanted.filter(({ vouchedFor }) => !isRefresh || vouchedFor === user);
    if (!isRefresh) tabs.sort((one, other) => other.timesAsked - one.timesAsked);
    let left = tabs.length;
    let isAnonymous = false;
    const offer: Offer = {};
    if (!isRefresh) this.#offer = offer;
    const isOver = () => !isRefresh && offer !== this.#offer;
    return new Promise((resolve, reject) => {
      const ask = () => {
        // The next attempt asks on its own, and a page answers only the latest request for credentials.
        if (isOver()) return;
        const tab = offer.token === undefined ? tabs.pop() : undefined;
        if (!tab) return;
        if (!isRefresh) tab.timesAsked++;
        let isNextAsked = false;
        const next = () => {
          if (!isNextAsked) ask();
          isNextAsked = true;
        };
        const cancel = this.#host.environment.after(TOKEN_TIMEOUT, next);
        void tab.token(isRefresh).then(({ token, hasFailed }) => {
          cancel();
          if (offer.token !== undefined) return;
          if (token !== undefined) {
            // The answer was slow, but the page is not frozen: the next attempt asks it first.
            if (isOver()) tab.timesAsked = 0;
            Object.assign(offer, { token, tab });
            return resolve(token);
          }
          isAnonymous ||= !hasFailed;
          if (--left > 0) return next();
          // If every page failed, a connection without credentials would belong to another user.
          if (isAnonymous) resolve(undefined);
          else reject(new Error("no page gave a token"));
        });
      };
      if (left === 0) reject(new Error("there is no page"));
      ask();
    });
  }

  /** Handles a message of the server before the worker's own client does. */
  #look(message: Wire): void {
    try {
      if (message.type === "session") this.#isIncomplete = this.#requests.learn(message);
      else if (message.type === "request") this.#answerBy(String(message["event"]));
      else this.#requests.pass(message, this.#client);
    } catch (error) {
      // An exception would make the client treat the message as unreadable, and close the connection.
      console.error("not passed on", error);
    }
  }

  /**
   * Lets the pages answer client requests of this name. The first answer counts; a refusal counts only if no
   * page answers.
   */
  #answerBy(event: string): void {
    if (this.#questions.has(event) || !this.#client) return;
    this.#questions.add(event);
    this.#client.onRequest(event, async (data) => {
      const answers = [...this.#tabs].map((tab) => tab.question(event, data));
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
function hurry(client: Client): void {
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
