// The chat page: who am I, which channels, who else is here, how is the connection. What a channel shows is
// room.js, what waits to be sent is outgoing.js; how the connection lasts is the business of the client, hauyna.js.

import { closeDrawer, watchDrawer } from "/drawer.js";
import { face, make, paint } from "/elements.js";
import { Client } from "/hauyna.js";
import { CutButton, Network, look } from "/network.js";
import { Outgoing } from "/outgoing.js";
import { Room } from "/room.js";

const HOME = "general";
const CUT = 8_000; // ms without a network, at the press of a button
const PAGE = 100; // messages of the past that are asked for at once
const CROWD = 50; // people from which on comings and goings are not told one by one
const at = (id) => document.getElementById(id);

class Page {
  #me;
  #network = new Network();
  #client;
  #outgoing;
  #rooms = new Map();
  #here = HOME;
  #cut;
  /** The element of each channel in the list. */
  #listed = new Map();

  constructor(me) {
    this.#me = me;
    this.#client = new Client(`/chat?user_id=${encodeURIComponent(me)}`, this.#network.options);
    this.#outgoing = new Outgoing(this.#client, me, (entry, outcome) => this.#rooms.get(entry.channel)?.settle(entry, outcome));
  }

  start() {
    at("door").hidden = true;
    at("chat").hidden = false;
    at("my-name").textContent = this.#me;
    at("my-face").textContent = [...this.#me][0].toUpperCase();
    paint(at("my-face"), this.#me);
    this.#listen();
    this.#hear();
    const { unsent } = this.#outgoing;
    for (const channel of new Set([HOME, ...savedRooms(), ...unsent.map((entry) => entry.channel)])) this.#enter(channel);
    for (const entry of unsent) this.#rooms.get(entry.channel).addUnsent(entry);
    this.#go(HOME);
    this.#client.connect().catch(() => {}); // how it is going is shown
    this.#outgoing.start();
    setInterval(() => this.#tick(), 250);
    at("text").focus();
  }

  /** What the client tells. */
  #hear() {
    this.#client.onState(() => this.#show());
    this.#client.onError((problem) => this.#note(problem.message, "warn"));
    this.#client.on("private", ({ from, message }) => this.#note(`${from ?? "the server"}, to you alone: ${message}`));
    this.#client.on("broadcast", ({ message }) => this.#note(`To everybody: ${message}`));
  }

  #listen() {
    at("say").addEventListener("submit", (event) => this.#say(event));
    at("text").addEventListener("keydown", (event) => {
      const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
      if (sends) this.#say(event);
    });
    at("text").addEventListener("input", grow);
    at("join").addEventListener("submit", (event) => this.#join(event));
    const retry = () => (this.#network.mend(), this.#client.reconnect());
    this.#cut = new CutButton(at("cut"), { cut: () => this.#network.cut(CUT), retry });
    at("leave").addEventListener("click", () => leave());
    at("below").addEventListener("click", () => this.#toEnd());
    at("logs").addEventListener("scroll", () => this.#isAtEnd() && (at("below").hidden = true), { passive: true });
    watchDrawer();
    document.addEventListener("visibilitychange", () => {
      // What has waited for a frame is counted now: a page that nobody sees has none.
      for (const room of this.#rooms.values()) room.draw();
      this.#read();
    });
  }

  // Talking

  #say(event) {
    event.preventDefault();
    const content = at("text").value.trim();
    if (content === "") return;
    at("text").value = "";
    grow();
    const room = this.#rooms.get(this.#here);
    room.addUnsent(this.#outgoing.publish(room.channel, content));
    this.#toEnd();
  }

  #receive(room, message) {
    const { epoch } = this.#client.channel(room.channel).position ?? {};
    if (room.add(message, epoch)) this.#noteUnread(room, message);
  }

  #note(text, kind, room = this.#rooms.get(this.#here)) {
    room.note(text, kind);
  }

  /** Draws what has come to a room: once for many messages. */
  #around(room, draw) {
    const stay = this.#isAtEnd();
    draw();
    if (room.channel === this.#here) this.#tick();
    this.#drawChannels();
    this.#settleScroll(room, stay);
  }

  #noteUnread(room, { user }) {
    const seen = room.channel === this.#here && document.visibilityState === "visible";
    if (!seen && user !== this.#me) room.unread += 1;
  }

  // Channels

  #enter(channel) {
    if (this.#rooms.has(channel)) return;
    const room = new Room(channel, this.#me, (draw) => this.#around(room, draw));
    room.element.hidden = true;
    this.#rooms.set(channel, room);
    at("logs").append(room.element);
    room.earlier.addEventListener("click", () => void this.#showEarlier(room));
    this.#follow(room);
    this.#save();
  }

  /** Subscribes, and shows what is heard until the room is left. */
  #follow(room) {
    const channel = this.#client.channel(room.channel);
    const { presence } = channel;
    const isTold = () => room.users !== null && presence.count < CROWD;
    room.offs = [
      channel.on("message", (message) => this.#receive(room, message)),
      channel.on("system", ({ message }) => this.#note(message, "", room)),
      channel.onState((state) => this.#subscribed(room, state)),
      channel.onGap(() => this.#missed(room)),
      presence.on("join", ({ user }) => isTold() && user !== this.#me && this.#note(`${user} came in`, "", room)),
      presence.on("leave", ({ user }) => isTold() && this.#note(`${user} left`, "", room)),
      presence.on("change", ({ users, count }) => this.#nowHere(room, users, count)),
    ];
    channel.subscribe().then(() => this.#begin(room), () => {});
  }

  async #begin(room) {
    await this.#fetch(room);
    room.draw();
    if (room.channel === this.#here) this.#toEnd();
  }

  #subscribed(room, { name, recovered, error }) {
    if (name === "unsubscribed" && error) this.#note(error.message, "warn", room);
    if (recovered) room.welcomeBack(recovered);
  }

  #missed(room) {
    this.#note("You are back, but some messages may be missing: the server no longer had all of them.", "warn", room);
    void this.#fetch(room);
  }

  /** Fills in what the channel still remembers. */
  async #fetch(room) {
    this.#addPast(room, await this.#client.channel(room.channel).history({ limit: PAGE, reverse: true }).catch(() => null));
  }

  #addPast(room, past) {
    for (const message of past?.messages ?? []) {
      if (message.type === "message") room.add(message, past.position.epoch);
    }
    if (past) room.hasEarlier = (past.last?.offset ?? past.oldest) > past.oldest;
  }

  /** Shows what was said before the oldest message on the page; what is being read stays where it is. */
  async #showEarlier(room) {
    const before = room.first;
    const past = before && (await this.#client.channel(room.channel).history({ before, limit: PAGE }).catch(() => null));
    if (!past) return;
    const logs = at("logs");
    const fromEnd = logs.scrollHeight - logs.scrollTop;
    room.keepsAll = true;
    this.#addPast(room, past);
    room.draw();
    logs.scrollTop = logs.scrollHeight - fromEnd;
  }

  #join(event) {
    event.preventDefault();
    const name = at("room").value.trim().toLowerCase().replace(/\s+/g, "-");
    if (name === "") return;
    at("room").value = "";
    const channel = name === HOME ? HOME : `room:${name}`;
    this.#enter(channel);
    this.#go(channel);
    closeDrawer();
  }

  #exit(channel) {
    const room = this.#rooms.get(channel);
    for (const off of room.offs) off();
    void this.#client.channel(channel).unsubscribe();
    room.element.remove();
    this.#rooms.delete(channel);
    this.#listed.get(channel)?.remove();
    this.#listed.delete(channel);
    this.#save();
    this.#go(HOME);
    at("text").focus();
  }

  #save() {
    const rooms = [...this.#rooms.keys()].filter((channel) => channel.startsWith("room:"));
    localStorage.setItem("hauyna.rooms", JSON.stringify(rooms));
  }

  #go(channel) {
    this.#here = channel;
    for (const room of this.#rooms.values()) room.element.hidden = room.channel !== channel;
    const room = this.#rooms.get(channel);
    at("title").textContent = room.title;
    at("text").placeholder = `Write to ${room.title}`;
    this.#read();
    this.#drawPeople();
    this.#toEnd();
    this.#tick();
  }

  #read() {
    if (document.visibilityState === "visible") this.#rooms.get(this.#here).unread = 0;
    this.#drawChannels();
  }

  // People

  #nowHere(room, users, count) {
    room.users = new Set(users.keys());
    room.count = count;
    if (room.channel === this.#here) this.#drawPeople();
  }

  #drawPeople() {
    const { users, count } = this.#rooms.get(this.#here);
    const others = [...(users ?? [])].filter((user) => user !== this.#me).sort((a, b) => a.localeCompare(b));
    const shown = [this.#me, ...others].slice(0, 200);
    const all = Math.max(count, others.length + 1);
    at("people").replaceChildren(...shown.map((user) => this.#person(user)));
    if (all > shown.length) at("people").append(make("li", "more", `and ${all - shown.length} more`));
    at("people-count").textContent = all;
    at("summary").textContent = all === 1 ? "nobody else is here" : `${all} people`;
  }

  #person(user) {
    const item = make("li");
    item.dataset.testid = "person";
    item.dataset.user = user;
    const name = make("span", "name", user);
    name.dir = "auto";
    name.title = user;
    item.append(face(user), name);
    if (user === this.#me) {
      item.dataset.me = "";
      item.append(make("small", "", "you"));
    }
    return item;
  }

  /** Changes the list in its place, so that the focus stays where it is. */
  #drawChannels() {
    const rooms = [...this.#rooms.values()];
    for (const room of rooms) this.#drawChannel(room);
    const unread = rooms.reduce((sum, room) => sum + room.unread, 0);
    at("menu-badge").hidden = unread === 0;
    at("menu-badge").textContent = unread;
    document.title = unread === 0 ? "Chat · Hauyna" : `(${unread}) Chat · Hauyna`;
  }

  #drawChannel(room) {
    if (!this.#listed.has(room.channel)) {
      this.#listed.set(room.channel, this.#channel(room));
      at("channels").append(this.#listed.get(room.channel));
    }
    const button = this.#listed.get(room.channel).firstChild;
    if (room.channel === this.#here) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
    const [, badge, word] = button.children;
    badge.hidden = word.hidden = room.unread === 0;
    badge.textContent = room.unread;
  }

  #channel(room) {
    const item = make("li");
    const button = make("button", "plain channel");
    button.dataset.testid = `channel-${room.channel}`;
    button.append(make("span", "", room.title), make("span", "badge"), make("span", "unseen", " unread"));
    button.addEventListener("click", () => (this.#go(room.channel), closeDrawer()));
    item.append(button);
    if (room.channel !== HOME) {
      const exit = make("button", "plain exit", "×");
      exit.setAttribute("aria-label", `Leave ${room.title}`);
      exit.addEventListener("click", () => this.#exit(room.channel));
      item.append(exit);
    }
    return item;
  }

  // The connection

  #show() {
    const { state } = this.#client;
    const name = look(state);
    at("state").dataset.state = at("chat").dataset.state = name;
    at("people-word").textContent = name === "connected" ? "Here now" : "Last seen here";
    this.#cut.show(name);
    at("state-spoken").textContent = describe(name, state);
    at("state-word").textContent = describe(name, state);
    if (name === "closed") this.#note(`Disconnected for good (${state.code} ${state.reason}).`, "warn");
    this.#tick();
  }

  /** What changes with time, or with every message. */
  #tick() {
    const until = this.#client.state.retryAt ?? this.#network.backAt;
    at("state-when").textContent = until ? `in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
    const { offset } = this.#client.channel(this.#here).position ?? {};
    at("position").textContent = offset === undefined ? "" : `position ${offset}`;
  }

  // Scrolling

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = at("logs");
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  #settleScroll(room, stay) {
    if (room.channel !== this.#here) return;
    if (stay) this.#toEnd();
    else at("below").hidden = this.#isAtEnd();
  }

  #toEnd() {
    at("logs").scrollTop = at("logs").scrollHeight;
    at("below").hidden = true;
    this.#rooms.get(this.#here).keepsAll = false;
  }
}

function describe(name, { code }) {
  if (name === "waiting") return navigator.onLine ? "Reconnecting" : "Offline, reconnecting";
  if (name === "closed") return `Offline (${code})`;
  return name === "connected" ? "Connected" : "Connecting";
}

function grow() {
  const text = at("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

function savedRooms() {
  return JSON.parse(localStorage.getItem("hauyna.rooms") ?? "[]");
}

function leave() {
  sessionStorage.removeItem("hauyna.name");
  location.reload();
}

function enter(name) {
  localStorage.setItem("hauyna.name", name);
  sessionStorage.setItem("hauyna.name", name);
  new Page(name).start();
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  if (name !== "") enter(name);
});

const name = sessionStorage.getItem("hauyna.name");
at("name").value = localStorage.getItem("hauyna.name") ?? "";
if (name) enter(name);
else at("name").focus();
