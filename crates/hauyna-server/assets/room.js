// What one channel shows: its messages in the order of the stream, notes between them, and what is still unsent.

import { face, make, time } from "/elements.js";

const MOST = 500; // messages kept on the page
const TOGETHER = 5 * 60_000; // ms within which messages of one person stand under one name

export class Room {
  channel;
  /** Who is here; nothing before that is known. */
  users = null;
  count = 1;
  /** Ends what is heard of the channel. */
  offs = [];
  unread = 0;
  element = make("ol", "log");
  #me;
  /** How often the stream began anew: offsets of different epochs are not compared. */
  #epochs = [];
  /** The range of offsets that was missed, and what is shown of it. */
  #away = null;

  constructor(channel, me) {
    this.channel = channel;
    this.#me = me;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-label", `Messages in ${this.title}`);
    this.element.dataset.testid = "log";
    this.element.dataset.channel = channel;
    this.element.hidden = true;
    const empty = make("li", "empty");
    empty.append(make("strong", "", "Quiet so far."), " Say something, then cut the socket and see what you miss: nothing.");
    this.element.append(empty);
  }

  get title() {
    return this.channel.replace(/^room:/, "");
  }

  /** Shows a published message at its place. False if it is here already. */
  add(message, epoch) {
    const order = message.offset === undefined ? this.#last() : this.#order(epoch, message.offset);
    if (message.offset !== undefined && this.#find(order)) return false;
    const item = this.#message(message, "sent");
    if (message.offset !== undefined) item.dataset.offset = message.offset;
    this.#place(item, order);
    this.#countAway(item, message);
    this.#trim();
    return true;
  }

  /** Shows a message that is on its way. */
  addUnsent(entry) {
    if (this.#unsent(entry.key)) return;
    const item = this.#message({ ...entry, user: this.#me }, "pending");
    item.dataset.key = entry.key;
    this.#place(item, Infinity);
  }

  /** The server has taken the message, or refused it. */
  settle(entry, { epoch, offset, problem }) {
    const item = this.#unsent(entry.key);
    if (!item) return;
    if (problem) {
      item.dataset.state = "failed";
      item.append(make("p", "refused", `Not sent: ${problem.message}`));
      item.dataset.order = this.#last();
      return;
    }
    // Its publication takes its place, and may be here already.
    item.remove();
    if (offset !== undefined) this.add({ ...entry, user: this.#me, offset }, epoch);
    this.#regroup();
  }

  note(text, kind = "") {
    const item = make("li", `note ${kind}`);
    item.dataset.testid = "note";
    item.append(make("span", "", text));
    this.#place(item, this.#last());
    return item;
  }

  /** From here on, the messages up to `to` are those that were missed. */
  welcomeBack({ from, to }) {
    if (to.offset <= from.offset) return this.note("You are back. Nothing was missed.", "back");
    const since = from.offset;
    this.#away = { count: 0, since, until: to.offset, note: null, order: this.#order(from.epoch, since) + 0.5 };
  }

  #countAway(item, { offset, user }) {
    // An answer may overtake the replay: a later offset does not end it.
    const missed = this.#away && offset > this.#away.since && offset <= this.#away.until;
    if (!missed || user === this.#me) return;
    this.#away.count += 1;
    item.classList.add("replayed");
    item.dataset.replayed = "true";
    this.#away.note ??= this.#awayNote(this.#away.order);
    this.#away.note.firstChild.textContent = `While you were away: ${this.#away.count}`;
  }

  #awayNote(order) {
    const note = this.note("", "away");
    note.dataset.testid = "away";
    note.remove();
    this.#place(note, order);
    return note;
  }

  #message({ user, content, timestamp }, state) {
    const item = make("li", "message");
    item.dataset.testid = "message";
    item.dataset.user = user ?? "";
    item.dataset.at = timestamp;
    item.dataset.state = state;
    if (user === this.#me) item.classList.add("mine");
    const body = make("div", "body");
    const by = make("p", "by", user || "the server");
    const text = make("p", "text", typeof content === "string" ? content : JSON.stringify(content));
    text.dataset.testid = "text";
    body.append(by, text);
    item.append(face(user || "·"), body, time(timestamp));
    return item;
  }

  #order(epoch, offset) {
    if (!this.#epochs.includes(epoch)) this.#epochs.push(epoch);
    return this.#epochs.indexOf(epoch) * 2 ** 40 + offset;
  }

  #last() {
    const settled = [...this.element.children].findLast((item) => item.dataset.order !== "Infinity");
    return Number(settled?.dataset.order ?? 0);
  }

  #find(order) {
    return [...this.element.querySelectorAll("[data-offset]")].some((item) => Number(item.dataset.order) === order);
  }

  #unsent(key) {
    return [...this.element.querySelectorAll("[data-key]")].find((item) => item.dataset.key === key);
  }

  #place(item, order) {
    item.dataset.order = order;
    const after = [...this.element.children].findLast((other) => Number(other.dataset.order ?? -1) <= order);
    if (after) after.after(item);
    else this.element.prepend(item);
    this.#regroup();
  }

  /** A message right after one of the same person stands under the same name. */
  #regroup() {
    let before = null;
    for (const item of this.element.children) {
      const both = before?.dataset.at && item.dataset.at; // notes have no time
      const near = both && item.dataset.at - before.dataset.at < TOGETHER;
      item.classList.toggle("follows", Boolean(near && before.dataset.user === item.dataset.user));
      before = item;
    }
  }

  #trim() {
    const surplus = this.element.children.length - MOST;
    for (const item of [...this.element.children].slice(1, 1 + Math.max(0, surplus))) item.remove();
  }
}
