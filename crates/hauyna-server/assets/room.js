// What one channel shows: its messages in the order of the stream, notes between them, and what is still unsent.
// Messages are drawn once a frame, however many come, and only the latest of them are on the page.

import { face, linked, make, time } from "/elements.js";

const MOST = 200; // messages and notes on the page while its end is on show
const FEW = 10; // entries up to which each may come with a movement
const TOGETHER = 5 * 60_000; // ms within which messages of one person stand under one name
const FRAME = 16; // ms
const REST = 4; // times as long as a drawing took, the next one waits: most of the time is for receiving
const MAX_REST = 250; // ms

export class Room {
  channel;
  /** Who is here; nothing before that is known. */
  users = null;
  count = 1;
  /** Ends what is heard of the channel. */
  offs = [];
  unread = 0;
  element = make("div", "log");
  /** The reader has asked for earlier messages: none are taken off the page. */
  keepsAll = false;
  /** The server has messages that are older than those on the page. */
  hasEarlier = false;
  earlier = make("button", "plain earlier", "Earlier messages");
  #list = make("ol");
  #empty = make("p", "empty");
  #moves = true;
  #me;
  #around;
  /** In the order of the stream; each has its element once it was drawn. */
  #entries = [];
  #orders = new Set();
  #unsent = new Map();
  #isScheduled = false;
  #notBefore = 0;
  /** How often the stream began anew: offsets of different epochs are not compared. */
  #epochs = [];
  /** The range of offsets that was missed, and what is shown of it. */
  #away = null;

  /** `around` is called with what draws, to keep the scroll position or to follow the end. */
  constructor(channel, me, around = (draw) => draw()) {
    this.channel = channel;
    this.#me = me;
    this.#around = around;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-label", `Messages in ${this.title}`);
    this.element.dataset.testid = "log";
    this.element.dataset.channel = channel;
    this.#empty.append(make("strong", "", "Quiet so far."), " Say something, then cut the socket and see what you miss: nothing.");
    this.earlier.dataset.testid = "earlier";
    this.earlier.hidden = true;
    this.element.append(this.earlier, this.#empty, this.#list);
  }

  get title() {
    return this.channel.replace(/^room:/, "");
  }

  /** The position of the oldest message on the page. */
  get first() {
    const entry = this.#entries.find(({ offset }) => offset !== undefined);
    return entry && { epoch: entry.epoch, offset: entry.offset };
  }

  /** Shows a published message at its place. False if it is here already. */
  add(message, epoch) {
    const isNumbered = message.offset !== undefined;
    const order = isNumbered ? this.#order(epoch, message.offset) : this.#last();
    if (isNumbered && this.#orders.has(order)) return false;
    if (isNumbered) this.#orders.add(order);
    const entry = this.#messageEntry(message, "sent", epoch);
    this.#countAway(entry);
    this.#insert(entry, order);
    return true;
  }

  /** Shows a message that is on its way. */
  addUnsent(unsent) {
    if (this.#unsent.has(unsent.key)) return;
    const entry = this.#messageEntry({ ...unsent, user: this.#me }, "pending");
    this.#unsent.set(unsent.key, entry);
    this.#insert(entry, Infinity);
    this.draw();
  }

  /** The server has taken the message, or refused it. */
  settle(unsent, { epoch, offset, problem }) {
    const entry = this.#unsent.get(unsent.key);
    if (!entry) return;
    this.#unsent.delete(unsent.key);
    this.#remove(entry);
    if (problem) {
      this.#insert({ ...entry, state: "failed", problem: problem.message, element: undefined }, this.#last());
    } else if (offset !== undefined) {
      // Its publication takes its place, and may be here already.
      this.add({ ...unsent, user: this.#me, offset }, epoch);
    }
  }

  note(text, kind = "", order = this.#last()) {
    const element = make("li", `note ${kind}`);
    element.dataset.testid = kind === "away" ? "away" : "note";
    element.append(make("span", "", text));
    this.#insert({ element }, order);
    this.draw();
    return element;
  }

  /** From here on, the messages up to `to` are those that were missed. */
  welcomeBack({ from, to }) {
    if (to.offset <= from.offset) return this.note("You are back. Nothing was missed.", "back");
    const since = from.offset;
    this.#away = { count: 0, since, until: to.offset, note: null, order: this.#order(from.epoch, since) + 0.5 };
  }

  /** Puts on the page what is not there yet, and takes off what is too much. */
  draw() {
    this.#isScheduled = false;
    const start = performance.now();
    this.#around(() => this.#draw());
    const end = performance.now();
    this.#notBefore = end + REST * (end - start);
  }

  #countAway(entry) {
    // An answer may overtake the replay: a later offset does not end it.
    const { offset, user } = entry;
    const isMissed = this.#away && offset > this.#away.since && offset <= this.#away.until;
    if (!isMissed || user === this.#me) return;
    this.#away.count += 1;
    entry.isReplayed = true;
    this.#away.note ??= this.note("", "away", this.#away.order);
    this.#away.note.firstChild.textContent = `While you were away: ${this.#away.count}`;
  }

  #messageEntry({ user, content, timestamp, offset }, state, epoch) {
    return { user: user ?? "", content, timestamp, offset, epoch, state };
  }

  #order(epoch, offset) {
    if (!this.#epochs.includes(epoch)) this.#epochs.push(epoch);
    return this.#epochs.indexOf(epoch) * 2 ** 40 + offset;
  }

  /** The order of the last entry that is no longer on its way. */
  #last() {
    return this.#entries.findLast(({ order }) => order !== Infinity)?.order ?? 0;
  }

  #insert(entry, order) {
    entry.order = order;
    let place = this.#entries.length;
    while (place > 0 && this.#entries[place - 1].order > order) place -= 1;
    this.#entries.splice(place, 0, entry);
    this.#schedule();
  }

  #remove(entry) {
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    entry.element?.remove();
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const draw = () => this.#isScheduled && this.draw();
    const rest = Math.min(MAX_REST, this.#notBefore - performance.now());
    // A page that nobody sees has no frames.
    if (document.visibilityState !== "visible" || rest > FRAME) setTimeout(draw, Math.max(FRAME, rest));
    else requestAnimationFrame(draw);
  }

  #draw() {
    this.#trim();
    this.earlier.hidden = !this.hasEarlier;
    this.#empty.hidden = this.#entries.length > 0;
    this.#moves = this.#entries.filter(({ element }) => !element).length <= FEW;
    let before = null;
    let next = this.#list.firstChild;
    for (const entry of this.#entries) {
      entry.element ??= this.#element(entry);
      // A message right after one of the same person stands under the same name.
      const isNear = before?.state && entry.state && entry.timestamp - before.timestamp < TOGETHER;
      const follows = Boolean(isNear && before.user === entry.user);
      if (entry.follows !== follows) entry.element.classList.toggle("follows", (entry.follows = follows));
      if (entry.element === next) next = next.nextSibling;
      else this.#list.insertBefore(entry.element, next);
      before = entry;
    }
  }

  #trim() {
    const surplus = this.keepsAll ? 0 : this.#entries.length - MOST;
    if (surplus <= 0) return;
    this.hasEarlier = true;
    for (const { element, order } of this.#entries.splice(0, surplus)) {
      element?.remove();
      this.#orders.delete(order);
    }
  }

  #element({ user, content, timestamp, offset, state, isReplayed, problem }) {
    const element = make("li", this.#moves ? "message new" : "message");
    Object.assign(element.dataset, { testid: "message", user, state });
    if (offset !== undefined) element.dataset.offset = offset;
    if (user === this.#me) element.classList.add("mine");
    if (isReplayed) {
      element.classList.add("replayed");
      element.dataset.replayed = "true";
    }
    const by = make("p", "by", user === this.#me ? "You" : user || "the server");
    by.dir = "auto";
    by.title = user;
    const text = make("p", "text");
    text.dir = "auto";
    text.dataset.testid = "text";
    text.append(linked(typeof content === "string" ? content : JSON.stringify(content)));
    const body = make("div", "body");
    body.append(by, text);
    element.append(face(user || "·"), body, time(timestamp));
    if (problem) element.append(make("p", "refused", `Not sent: ${problem}`));
    return element;
  }
}
