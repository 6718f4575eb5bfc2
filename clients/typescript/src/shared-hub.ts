// One connection of the worker, and the pages that share it: to each page it is what the server would be.

import { Client, type ClientOptions, type Codec, type Contract, ServerError, type State, json, msgpack } from "hauyna";
import { size } from "./codec.js";
import type { SharedHost } from "./shared-host.js";
import type { FromPage, Settings } from "./shared-port.js";
import { Requests } from "./shared-requests.js";
import { LOST, type Tab, type Wire } from "./shared-tab.js";

/** What has come of a page's credentials: they are this connection's, another user's, or were not to be had. */
type Verdict = "same" | "other" | "unknown";

/** Credentials, and the page that gave them. */
interface Offer {
  token?: string;
  tab?: Tab | undefined;
}

/** A request of a page that is not answered yet. */
interface Pending {
  readonly tab: Tab;
  /** The page's socket that it came by. */
  readonly socket: number;
  readonly id: unknown;
  readonly bytes: number;
}

/** The connection, and the pages that share it. */
export class Hub {
  readonly #settings: Settings;
  readonly #host: SharedHost;
  readonly #codec: Codec;
  readonly #tabs = new Set<Tab>();
  readonly #requests: Requests;
  /** The server's questions that pages are asked. */
  readonly #questions = new Set<string>();
  #client: Client | undefined;
  /** The credentials of the connection, and whose it was last. */
  #shown: string | undefined;
  #user: string | undefined;
  /** What the latest attempt to connect has got. */
  #offer: Offer = {};
  /** Whether the connection had a session when its state was told last. */
  #wasConnected = false;
  /** The session that has just begun does not go on with everything that the one before had. */
  #isIncomplete = false;
  /** The requests of pages that are not answered yet, also of pages that have gone. */
  readonly #pending = new Set<Pending>();
  /** The size of the largest other frame on this connection, or of a request whose time was up. */
  #told = 0;
  /** The size of the `resume` of the latest attempt, if it had one. */
  #resume = 0;
  /** Called when the last page has gone. */
  readonly #emptied: () => void;

  constructor(settings: Settings, host: SharedHost, emptied: () => void) {
    this.#settings = settings;
    this.#host = host;
    this.#emptied = emptied;
    this.#codec = settings.protocol === msgpack.protocol ? msgpack : json;
    this.#requests = new Requests(this.#tabs, (delay, run) => host.environment.after(delay, run));
  }

  // Pages

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

  /** The page has gone. */
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
    // By itself, a page waits until there is a connection.
    if (this.#client?.state.name !== "connected") this.#doubt(tab);
    const client = (this.#client ??= this.#connect());
    const { state } = client;
    tab.say({ say: "network", isThere: state.name === "connected" });
    if (state.name === "connected") return void this.#begin(tab, state);
    hurry(client);
  }

  /** The page's client is told to connect again, or closed: somebody else may have signed in there. */
  #doubt(tab: Tab): void {
    tab.doubt();
    if (this.#offer.tab === tab) this.#offer.tab = undefined;
  }

  /** Gives the waiting socket its session, unless the page is somebody else's. */
  async #begin(tab: Tab, state: State & { name: "connected" }): Promise<void> {
    const { waiting } = tab;
    if (waiting === undefined) return;
    const { connectionId, user, maxMessage } = state.session;
    if (this.#settings.hasToken && tab.vouchedFor !== user) {
      const verdict = await this.#judge(tab);
      // Whatever has changed meanwhile asks again.
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

  /** Whether the page's credentials are those of the connection's user. The server knows, for it renews only theirs. */
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
      // A server that renews no credentials says nothing of them.
      return error.type === "unknown_event" ? "same" : "other";
    }
  }

  #close(tab: Tab, number: number): void {
    this.#doubt(tab);
    if (tab.waiting === number) tab.waiting = undefined;
    if (tab.socket === number) tab.end(LOST, "");
    // Until it is closed, the page's client will come back.
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

  /** Nothing is left of the connection. */
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
      const request = { tab, socket: number, id: message.id, bytes: size(frame) };
      this.#pending.add(request);
      void this.#requests.perform(this.#client, tab, message).then((isLate) => {
        this.#pending.delete(request);
        if (isLate) this.#told = Math.max(this.#told, request.bytes);
      });
    }
  }

  // The server

  #connect(): Client {
    const { url, hasToken, retry, timeout, connectTimeout } = this.#settings;
    const { environment, WebSocket } = this.#host;
    const codec: Codec = {
      ...this.#codec,
      encode: (message) => {
        const frame = this.#codec.encode(message);
        if ((message as Wire).type === "resume") this.#resume = size(frame);
        return frame;
      },
      decode: (data) => {
        const message = this.#codec.decode(data);
        // What is no message is the client's affair.
        if (typeof message === "object" && message !== null && typeof (message as Wire).type === "string") this.#look(message as Wire);
        return message;
      },
    };
    const getToken: ClientOptions["getToken"] = hasToken ? ({ isRefresh }) => this.#token(isRefresh) : undefined;
    // What may wait is bounded in each page.
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
    if ("retryAt" in state) [this.#offer, this.#resume] = [{}, 0]; // the attempt is over
    if (isConnected) {
      // The server may have answered before it has read it.
      [this.#told, this.#resume] = [this.#resume, 0];
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
    if ("code" in state && state.code === MESSAGE_TOO_BIG) this.#refuseLargest();
    for (const tab of this.#wanted) {
      // During a move pages keep their sockets. Where something may be missing, each recovers by itself.
      if (isConnected && !this.#isIncomplete) tab.say({ say: "network", isThere: true });
      else {
        tab.say({ say: "network", isThere: false });
        tab.end(LOST, isConnected ? "moved" : (state.reason ?? ""));
        if (isConnected) tab.say({ say: "network", isThere: true });
      }
      if (isConnected) void this.#begin(tab, state);
    }
  }

  /**
   * The connection ended because a message was too large: the largest request is refused, where its page still
   * waits for it. It may be here twice, where its page has repeated it.
   */
  #refuseLargest(): void {
    const largest = Math.max(...[...this.#pending].map(({ bytes }) => bytes));
    const refusal = { error_type: "payload_too_large", message: "the message is too large", temporary: false };
    for (const { tab, socket, id, bytes } of this.#pending) {
      const isTooLarge = bytes === largest && bytes > this.#told;
      if (isTooLarge && tab.socket === socket) tab.tell({ type: "error", id, timestamp: Date.now(), ...refusal });
    }
  }

  /** The client tries no more. Where it is for one page's credentials, that page alone is told, and the others try theirs. */
  #closed(client: Client, { error, code = LOST, reason }: State & { name: "closed" }, isAttempt: boolean): void {
    const { token, tab } = this.#offer;
    // A page that was told to come back would make the worker try again.
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

  /** The connection is another user's now: it goes on with nothing of the former user: no subscriptions, no waiting requests. */
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
   * Asks the pages until one gives credentials: those first that have been asked least since they led to a connection, and of them the
   * newest. So none keeps the others from their turn for ever. One that is frozen holds them up only for a moment.
   * What comes later counts for nothing. Only those that share the connection can renew its credentials.
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
        // The next attempt asks by itself, and a page answers only its latest question.
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
            if (isOver()) tab.timesAsked = 0; // too slow, but not frozen: the next attempt begins with it
            Object.assign(offer, { token, tab });
            return resolve(token);
          }
          isAnonymous ||= !hasFailed;
          if (--left > 0) return next();
          // Without credentials that there should be, the connection would be somebody else's.
          if (isAnonymous) resolve(undefined);
          else reject(new Error("no page gave a token"));
        });
      };
      if (left === 0) reject(new Error("there is no page"));
      ask();
    });
  }

  /** Passes on what the server says, before the worker's own client hears it. */
  #look(message: Wire): void {
    try {
      if (message.type === "session") this.#isIncomplete = this.#requests.learn(message);
      else if (message.type === "request") this.#answerBy(String(message["event"]));
      else this.#requests.pass(message, this.#client);
    } catch (error) {
      // Else the client would take the message for unreadable, and give up the connection.
      console.error("not passed on", error);
    }
  }

  /** Lets the pages answer questions of this name. The first answer counts, and a refusal only where nobody answers. */
  #answerBy(event: string): void {
    if (this.#questions.has(event) || !this.#client) return;
    this.#questions.add(event);
    this.#client.onRequest(event, async (data) => {
      const answers = [...this.#tabs].map((tab) => tab.question(event, data));
      return Promise.any(answers).catch(({ errors }) => Promise.reject(errors[0] ?? new Error("nobody answers this")));
    });
  }
}

/** The message of a frame, if it is one. */
function read(codec: Codec, frame: string | Uint8Array): Wire | undefined {
  try {
    const message = codec.decode(typeof frame === "string" ? frame : frame.slice().buffer) as Wire | null;
    return typeof message?.type === "string" ? message : undefined;
  } catch {
    return undefined;
  }
}

/** Lets a client try now that waits for its next attempt, or that has been closed. */
function hurry(client: Client): void {
  const { state } = client;
  if (state.name === "closed") void client.connect().catch(() => {});
  else if (state.name !== "connected" && state.retryAt !== undefined) client.reconnect();
}

/** Between a page and its worker nothing is lost, but the worker may end. */
const HEARTBEAT = { interval: 60_000, timeout: 120_000 };
/** The close code of pages whose worker has used up its attempts: they stay away until they are told to connect. */
const GAVE_UP = 4500;
/** The close code of a connection that a message was too large for. */
const MESSAGE_TOO_BIG = 1009;
/** Milliseconds that a page has to give credentials before the next one is asked, too. */
const TOKEN_TIMEOUT = 1_000;
