// One of the two people on the first page: what they see, write and point at, and what is counted of it.

import { face } from "/elements.js";
import { CutButton, Network, look } from "/network.js";
import { Room } from "/room.js";

const CUT = 12_000; // ms without a network, at the press of a button
const STILL = 3_000; // ms after which a cursor that does not move is hidden
const at = (element, selector) => element.querySelector(selector);

export class Person {
  network = new Network();
  name;
  client;
  room;
  /** Called when the socket is cut, and with each text that is published. */
  onCut = () => {};
  onPublish = () => {};
  #panel;
  /** What this person can do: `say` and `point` in a channel. */
  #acts;
  #log;
  #cut;
  #counts = { received: 0, lost: 0, doubled: 0 };
  /** The last offset that was received, and the last one of those that were missed. */
  #last = null;
  #missedUntil = 0;
  #expected = new Map();
  #away = 0;
  #still = 0;
  #key = 0;

  constructor(panel, name, acts) {
    this.#panel = panel;
    this.name = name;
    this.#acts = acts;
    panel.append(at(document, "#person").content.cloneNode(true));
    panel.dataset.testid = panel.id;
    const title = at(panel, "h2");
    title.id = `${panel.id}-name`;
    title.textContent = name;
    title.before(face(name));
    at(panel, ".logs").setAttribute("aria-label", `Messages that ${name} sees`);
    at(panel, ".composer input").placeholder = `Write as ${name}`;
    at(panel, ".composer input").setAttribute("aria-label", `Write as ${name}`);
    at(panel, ".composer .icon").setAttribute("aria-label", `Send as ${name}`);
    for (const name of ["link", "position", "latency", "received", "lost", "doubled"]) {
      at(panel, `.${name}`).dataset.testid = `${panel.id}-${name === "link" ? "state" : name}`;
    }
    at(panel, ".composer input").dataset.testid = `${panel.id}-input`;
    at(panel, ".composer .icon").dataset.testid = `${panel.id}-send`;
    at(panel, ".cursor").dataset.testid = `${panel.id}-cursor`;
  }

  /** Options of the client: a network that can be cut. */
  get wire() {
    return this.network.options;
  }

  get isAway() {
    return look(this.client.state) !== "connected";
  }

  start(client, room) {
    this.client = client;
    this.room = room;
    this.#log = new Room(room.name, this.name, (draw) => this.#around(draw));
    this.#log.element.setAttribute("aria-label", `What ${this.name} sees`);
    at(this.#panel, ".logs").append(this.#log.element);
    room.onState(({ recovered }) => recovered && this.#welcomeBack(recovered));
    room.onGap(() => {
      this.#last = null;
      this.#log.note("Some messages may be missing: the server no longer has all of them.", "warn");
    });
    this.#cut = new CutButton(at(this.#panel, ".cut"), {
      cut: () => (this.network.cut(CUT), this.onCut()),
      retry: () => (this.network.mend(), client.reconnect()),
      words: [`Cut ${this.name}`, "Reconnect"],
      testid: `${this.#panel.id}-`,
    });
    at(this.#panel, ".composer").addEventListener("submit", (event) => {
      event.preventDefault();
      const input = at(event.target, "input");
      void this.say(input.value.trim());
      input.value = "";
    });
    this.#listenToPointer();
    this.turn(client.state);
    setInterval(() => this.#tick(), 250);
  }

  /** Shows what was said before this page was opened; gives how much it was. */
  async load() {
    const { messages, position } = await this.room.history({ limit: 100, reverse: true });
    for (const message of messages) this.#log.add(message, position.epoch);
    this.#last ??= position.offset;
    this.#log.draw();
    this.#tick();
    return messages.length;
  }

  async say(text) {
    if (text === "") return;
    const unsent = { key: `${(this.#key += 1)}`, content: text, timestamp: Date.now() };
    this.#log.addUnsent(unsent);
    this.onPublish(text, performance.now());
    const outcome = await this.#acts.say(this.room, text).then((position) => position ?? {}, (problem) => ({ problem }));
    this.#log.settle(unsent, outcome);
  }

  // What the client tells

  receive(message) {
    const { offset, user, content } = message;
    const isNew = this.#log.add(message, this.room.position?.epoch);
    this.#last ??= offset - 1;
    if (offset <= this.#last) this.#counts.doubled += 1;
    else this.#counts.lost += offset - this.#last - 1;
    this.#last = Math.max(this.#last, offset);
    this.#counts.received += 1;
    const sent = this.#expected.get(content);
    this.#expected.delete(content);
    // What was missed says how long the cut was, not how fast the server is.
    if (isNew && user !== this.name && sent && offset > this.#missedUntil) this.#show("latency", `${(performance.now() - sent).toFixed(1)} ms`);
    this.#tick();
  }

  /** The other one has published this text just now, on the clock of this page. */
  expect(text, sent) {
    if (this.isAway) return;
    this.#expected.clear();
    this.#expected.set(text, sent);
  }

  turn(state) {
    const name = look(state);
    this.#panel.dataset.state = name;
    at(this.#panel, ".link").dataset.state = name;
    this.#cut.show(name);
    at(this.#panel, "[role=status]").textContent = `${this.name}: ${describe(name)}`;
    if (name === "waiting") this.#away ||= performance.now();
    this.#tick();
  }

  #welcomeBack({ from, to }) {
    const seconds = ((performance.now() - this.#away) / 1000).toFixed(1);
    this.#away = 0;
    this.#missedUntil = to.offset;
    this.#log.welcomeBack({ from, to });
    this.#panel.dataset.missed = to.offset - from.offset;
    at(this.#panel, "[role=status]").textContent = `${this.name} is back after ${seconds} s`;
  }

  // Cursors

  #listenToPointer() {
    const pad = at(this.#panel, ".pad");
    pad.addEventListener("pointermove", (event) => {
      const { left, top, width, height } = pad.getBoundingClientRect();
      const round = (part) => Math.round(part * 1000) / 1000;
      this.#acts.point(this.room, round((event.clientX - left) / width), round((event.clientY - top) / height));
    });
  }

  /** The other one points at this place: parts of the width and of the height. */
  point({ user, data: { x, y } }) {
    const cursor = at(this.#panel, ".cursor");
    at(cursor, "span").textContent = user;
    cursor.style.left = `${x * 100}%`;
    cursor.style.top = `${y * 100}%`;
    cursor.hidden = false;
    clearTimeout(this.#still);
    this.#still = setTimeout(() => (cursor.hidden = true), STILL);
  }

  // The page

  #around(draw) {
    draw();
    const logs = at(this.#panel, ".logs");
    logs.scrollTop = logs.scrollHeight;
  }

  #tick() {
    const { position } = this.room;
    if (position) {
      this.#show("position", `${String(position.epoch).slice(0, 6)}:${position.offset}`);
      at(this.#panel, ".position").title = `epoch ${position.epoch}, offset ${position.offset}`;
    }
    for (const [name, count] of Object.entries(this.#counts)) this.#show(name, count);
    const name = look(this.client.state);
    const until = this.client.state.retryAt ?? this.network.backAt;
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    at(this.#panel, ".word").textContent = name === "waiting" && until ? `Back in ${seconds} s` : describe(name);
  }

  #show(name, text) {
    at(this.#panel, `.${name}`).textContent = text;
  }
}

function describe(name) {
  return { connected: "Connected", waiting: "Reconnecting", closed: "Closed" }[name] ?? "Connecting";
}
