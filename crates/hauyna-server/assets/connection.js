// A connection to a hauyna server that lasts: it comes back by itself, subscribes again from where it was, and
// keeps every message until the server has acknowledged it. Knows the protocol, knows nothing of the page.

/** Whether a client comes back after this close code: the number's range alone decides. */
export function comesBack(code) {
  if (code >= 3000) return code % 1000 < 500;
  return ![1000, 1002, 1003, 1007, 1008, 1009, 1010].includes(code);
}

export class Connection {
  #url;
  #token;
  /** What it tells the page; `request` gives the answer to a question of the server's. */
  #on = { state() {}, session() {}, subscribed() {}, message() {}, settled() {}, problem() {}, request() {} };
  /** The name under which the outbox outlives a reload; none, and it does not. */
  #store;
  #socket = null;
  #attempt = 0;
  #openedAt = 0;
  /** Until when the network counts as gone, for who wants to see how that goes. */
  #gone = 0;
  #timer = 0;
  /** Lost, and would come back: waiting, or tired of trying. */
  #wants = false;
  #heartbeat = 0;
  #number = 0;
  /** Requests without an answer, by their id. */
  #requests = new Map();
  /** The last position seen of each subscribed channel; null where nothing is known yet. */
  #positions = new Map();
  /** What this connection says about itself in a channel. */
  #metadata = new Map();
  /** Messages that the server has not acknowledged, oldest first. */
  #outbox;
  #flushing = false;
  /** How to come back, until the server says. */
  #retry = { max_attempts: Infinity, base_delay: 500, max_delay: 15_000, backoff_multiplier: 2, jitter: 0.3 };
  #interval = 25_000;

  /**
   * `path` with its query; `store` tells the outbox of one user from that of another; `token` gives the credentials
   * for each attempt, which travel beside the sub-protocol and so stay out of addresses and logs.
   */
  constructor({ path, store, token }, on) {
    this.#url = new URL(path, location.href.replace(/^http/, "ws"));
    Object.assign(this.#on, on);
    this.#token = token;
    this.#store = store && `hauyna.outbox.${store}`;
    this.#outbox = JSON.parse((this.#store && sessionStorage.getItem(this.#store)) ?? "[]");
    addEventListener("online", () => this.#wants && this.retry());
  }

  get unsent() {
    return [...this.#outbox];
  }

  position(channel) {
    return this.#positions.get(channel);
  }

  open() {
    this.#timer = 0;
    this.#wants = false;
    this.#on.state({ name: "connecting" });
    const bearer = this.#token ? [`hauyna.bearer.${this.#token()}`] : [];
    const socket = new WebSocket(this.#url, ["hauyna.v1.json", ...bearer]);
    this.#socket = socket;
    const current = (react) => (event) => socket === this.#socket && react(event);
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current((event) => this.#receive(JSON.parse(event.data)));
    socket.onclose = current((event) => this.#lost(event));
  }

  /** Comes back at once instead of later. */
  retry() {
    this.#gone = 0;
    this.#attempt = 0;
    this.#drop();
    this.open();
  }

  /** Goes, and stays away. */
  close() {
    this.#drop(1000);
    this.#on.state({ name: "closed", code: 1000, reason: "closed by the page" });
  }

  /** Plays a network that is gone for a while. */
  cut(duration) {
    this.#gone = Date.now() + duration;
    this.#lost({ code: 1006, reason: "cut" });
  }

  subscribe(channel, metadata) {
    if (this.#positions.has(channel)) return;
    this.#positions.set(channel, null);
    this.#metadata.set(channel, metadata);
    if (this.#isOpen()) this.#subscribe(channel);
  }

  unsubscribe(channel) {
    this.#positions.delete(channel);
    if (this.#isOpen()) this.request({ type: "unsubscribe_channel", channel }).catch(() => {});
  }

  /** Puts a message into the outbox; it leaves now or after the next reconnection, and is published once. */
  publish(channel, content) {
    const key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");
    const entry = { key, channel, content, timestamp: Date.now() };
    this.#outbox.push(entry);
    this.#flush();
    return entry;
  }

  /** Asks the server. No answer in time means that the connection is dead, whatever the socket says. */
  request(message) {
    if (!this.#isOpen()) return Promise.reject({ lost: true });
    const id = ++this.#number;
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const dead = () => socket === this.#socket && this.#lost({ code: 1006, reason: "no answer" });
      this.#requests.set(id, { resolve, reject, timer: setTimeout(dead, ANSWER) });
      socket.send(JSON.stringify({ ...message, id }));
    });
  }

  #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#on.state({ name: "connected" });
    this.#beat();
    for (const channel of this.#positions.keys()) this.#subscribe(channel);
    this.#flush();
  }

  #beat() {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => this.request({ type: "ping" }).catch(() => {}), this.#interval);
  }

  async #subscribe(channel) {
    const since = this.#positions.get(channel);
    try {
      const metadata = this.#metadata.get(channel);
      const answer = await this.request({ type: "subscribe_channel", channel, metadata, recover: since ?? undefined });
      // A recovery replays from `since`: the position moves with each message. Else it starts at the answer.
      if (!since || !answer.recovered) this.#positions.set(channel, positionOf(answer));
      this.#on.subscribed(channel, { ...answer, since: since && { ...since } });
    } catch (problem) {
      if (!problem.lost) this.#on.problem(channel, problem);
    }
  }

  async #flush() {
    this.#remember();
    if (this.#flushing) return;
    this.#flushing = true;
    while (this.#outbox.length > 0 && this.#isOpen()) {
      const entry = this.#outbox[0];
      const outcome = await this.#post(entry);
      if (!outcome) continue;
      this.#outbox.shift();
      this.#remember();
      this.#on.settled(entry, outcome);
    }
    this.#flushing = false;
  }

  #remember() {
    if (this.#store) sessionStorage.setItem(this.#store, JSON.stringify(this.#outbox));
  }

  /** Where the message ended, or nothing when it has to be sent again. */
  async #post({ channel, content, key }) {
    try {
      return (await this.request({ type: "channel_message", channel, content, key })) ?? {};
    } catch (problem) {
      if (problem.temporary) await new Promise((done) => setTimeout(done, problem.details?.retry_after ?? 1000));
      return problem.temporary || problem.lost ? null : { problem };
    }
  }

  #receive(message) {
    switch (message.type) {
      case "session":
        this.#retry = message.retry ?? this.#retry;
        this.#interval = message.heartbeat?.interval ?? this.#interval;
        this.#on.session(message);
        return this.#beat();
      case "retry_policy":
        this.#retry = message;
        break;
      case "ack":
      case "pong":
        return this.#take(message.id)?.resolve(message.data);
      case "error":
        return message.id === undefined ? this.#on.problem(null, message) : this.#take(message.id)?.reject(message);
      case "request":
        return this.#answer(message);
      case "reconnect":
        return this.#moveLater(message.after);
    }
    if (this.#isNew(message)) this.#on.message(message);
  }

  async #answer({ id, event, data }) {
    const socket = this.#socket;
    const answer = async () => ({ type: "ack", id, data: await this.#on.request(event, data) });
    const refusal = (problem) => ({ type: "error", id, message: String(problem?.message ?? problem) });
    const said = await answer().catch(refusal);
    if (socket === this.#socket) socket.send(JSON.stringify(said));
  }

  /** Moves the channel's position on. False for what was here already. */
  #isNew({ type, channel, offset, epoch }) {
    const position = this.#positions.get(channel);
    if (!position || offset === undefined || type.startsWith("presence")) return true;
    if (type === "gap") this.#positions.set(channel, { epoch, offset });
    else if (offset <= position.offset) return false;
    else position.offset = offset;
    return true;
  }

  #take(id) {
    const request = this.#requests.get(id);
    clearTimeout(request?.timer);
    this.#requests.delete(id);
    return request;
  }

  /** The server drains: move at a random moment of the window that it gave. */
  #moveLater([min, max]) {
    const socket = this.#socket;
    const move = () => socket === this.#socket && this.retry();
    setTimeout(move, min + Math.random() * (max - min));
  }

  #lost({ code, reason }) {
    this.#drop();
    const lasted = this.#openedAt && Date.now() - this.#openedAt;
    this.#openedAt = 0;
    this.#attempt = lasted > STABLE ? 1 : this.#attempt + 1;
    const { max_attempts = Infinity } = this.#retry;
    this.#wants = comesBack(code);
    if (!this.#wants) return this.#on.state({ name: "closed", code, reason });
    if (this.#attempt > max_attempts) return this.#on.state({ name: "closed", code, reason: `gave up after ${max_attempts} attempts` });
    const until = Math.max(Date.now(), this.#gone) + this.#delay();
    this.#on.state({ name: "waiting", until, reason, attempt: this.#attempt, max_attempts });
    this.#timer = setTimeout(() => this.open(), until - Date.now());
  }

  #delay() {
    const { base_delay, max_delay, backoff_multiplier, jitter } = this.#retry;
    const delay = Math.min(max_delay, base_delay * backoff_multiplier ** (this.#attempt - 1));
    return Math.min(max_delay, delay * (1 + jitter * (2 * Math.random() - 1)));
  }

  /** 4000 is one of the codes that say: I come back. None would say the opposite. */
  #drop(code = 4000) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    clearInterval(this.#heartbeat);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
    for (const id of [...this.#requests.keys()]) this.#take(id).reject({ lost: true });
  }
}

function positionOf({ epoch, offset }) {
  return epoch === undefined || offset === undefined ? null : { epoch, offset };
}

/** How long an answer may take, and how long a connection lives before it counts as a good one; in ms. */
const ANSWER = 10_000;
const STABLE = 5_000;
