// The chat page: who am I, which channels, who else is here, how is the connection. What a channel shows is
// room.js, how the connection lasts is connection.js.

import { Connection } from "/connection.js";
import { face, make, paint } from "/elements.js";
import { Room } from "/room.js";

const HOME = "general";
const CUT = 8_000; // ms without a network, at the press of a button
const CROWD = 50; // people from which on comings and goings are not told one by one
const at = (id) => document.getElementById(id);

class Page {
  #me;
  #connection;
  #rooms = new Map();
  #here = HOME;
  #state = { name: "connecting" };
  #asked = new Map();

  constructor(me) {
    this.#me = me;
    this.#connection = new Connection({ path: `/chat?user_id=${encodeURIComponent(me)}`, store: me }, {
      state: (state) => this.#show(state),
      subscribed: (channel, answer) => this.#subscribed(channel, answer),
      message: (message) => this.#receive(message),
      settled: (entry, outcome) => this.#rooms.get(entry.channel)?.settle(entry, outcome),
      problem: (channel, problem) => this.#refused(channel, problem),
    });
  }

  start() {
    at("door").hidden = true;
    at("chat").hidden = false;
    at("my-name").textContent = this.#me;
    at("my-face").textContent = [...this.#me][0].toUpperCase();
    paint(at("my-face"), this.#me);
    this.#listen();
    const unsent = this.#connection.unsent;
    for (const channel of new Set([HOME, ...savedRooms(), ...unsent.map((entry) => entry.channel)])) this.#enter(channel);
    for (const entry of unsent) this.#rooms.get(entry.channel).addUnsent(entry);
    this.#go(HOME);
    this.#connection.open();
    setInterval(() => this.#tick(), 250);
    at("text").focus();
  }

  #listen() {
    at("say").addEventListener("submit", (event) => this.#say(event));
    at("text").addEventListener("keydown", (event) => {
      const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
      if (sends) this.#say(event);
    });
    at("text").addEventListener("input", grow);
    at("join").addEventListener("submit", (event) => this.#join(event));
    at("cut").addEventListener("click", () => this.#connection.cut(CUT));
    at("retry").addEventListener("click", () => this.#connection.retry());
    at("leave").addEventListener("click", () => leave());
    at("menu").addEventListener("click", () => drawer(at("menu").ariaExpanded !== "true"));
    at("veil").addEventListener("click", () => drawer(false));
    at("below").addEventListener("click", () => this.#toEnd());
    at("logs").addEventListener("scroll", () => this.#isAtEnd() && (at("below").hidden = true), { passive: true });
    document.addEventListener("keydown", (event) => event.key === "Escape" && drawer(false));
    document.addEventListener("visibilitychange", () => this.#read());
  }

  // Talking

  #say(event) {
    event.preventDefault();
    const content = at("text").value.trim();
    if (content === "") return;
    at("text").value = "";
    grow();
    const room = this.#rooms.get(this.#here);
    room.addUnsent(this.#connection.publish(room.channel, content));
    this.#toEnd();
  }

  #receive(message) {
    const room = this.#rooms.get(message.channel ?? this.#here);
    if (!room) return; // left a moment ago
    const stay = this.#isAtEnd();
    const { epoch } = this.#connection.position(message.channel) ?? {};
    switch (message.type) {
      case "message":
        if (room.add(message, epoch)) this.#noteUnread(room, message);
        break;
      case "system":
        room.note(message.message);
        break;
      case "private":
        room.note(`${message.from ?? "the server"}, to you alone: ${message.message}`);
        break;
      case "broadcast":
        room.note(`To everybody: ${message.message}`);
        break;
      case "channel_event":
        this.#comingOrGoing(room, message);
        break;
      case "gap":
        room.note(`This connection was too slow: ${message.missed} messages were left out, fetching them.`, "warn");
        this.#fetch(room);
        break;
    }
    this.#tick();
    this.#settleScroll(room, stay);
  }

  #noteUnread(room, { user }) {
    const seen = room.channel === this.#here && document.visibilityState === "visible";
    if (seen || user === this.#me) return;
    room.unread += 1;
    this.#drawChannels();
  }

  #refused(channel, problem) {
    const room = this.#rooms.get(channel) ?? this.#rooms.get(this.#here);
    room.note(problem.message, "warn");
  }

  // Channels

  async #subscribed(channel, answer) {
    const room = this.#rooms.get(channel);
    if (!room) return;
    if (answer.since && answer.recovered) room.welcomeBack(answer);
    else if (answer.since) room.note("You are back, but some messages may be missing: the server no longer had all of them.", "warn");
    this.#ask(room);
    if (!answer.recovered) await this.#fetch(room);
    if (!answer.since) this.#toEnd();
  }

  /** Fills in what the channel still remembers. */
  async #fetch(room) {
    const wanted = { type: "history", channel: room.channel, limit: 100, reverse: true };
    const answer = await this.#connection.request(wanted).catch(() => null);
    for (const message of answer?.messages ?? []) {
      if (message.type === "message") room.add(message, answer.epoch);
    }
  }

  #join(event) {
    event.preventDefault();
    const name = at("room").value.trim().toLowerCase().replace(/\s+/g, "-");
    if (name === "") return;
    at("room").value = "";
    const channel = name === HOME ? HOME : `room:${name}`;
    this.#enter(channel);
    this.#go(channel);
    drawer(false);
  }

  #enter(channel) {
    if (this.#rooms.has(channel)) return;
    const room = new Room(channel, this.#me);
    this.#rooms.set(channel, room);
    at("logs").append(room.element);
    this.#connection.subscribe(channel);
    this.#save();
  }

  #exit(channel) {
    this.#connection.unsubscribe(channel);
    this.#rooms.get(channel).element.remove();
    this.#rooms.delete(channel);
    this.#save();
    this.#go(HOME);
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

  /** Asks who is subscribed; once, however often it is called before the answer. */
  #ask(room) {
    if (this.#asked.has(room.channel)) return;
    const ask = async () => {
      this.#asked.delete(room.channel);
      const question = { type: "subscribers", channel: room.channel };
      const answer = await this.#connection.request(question).catch(() => null);
      if (answer) this.#nowHere(room, new Set(answer.users));
    };
    this.#asked.set(room.channel, setTimeout(ask, 100));
  }

  #nowHere(room, users) {
    for (const user of room.users) {
      if (!users.has(user) && users.size < CROWD) room.note(`${user} left`);
    }
    room.users = users;
    this.#drawPeople();
  }

  #comingOrGoing(room, { event, user }) {
    if (event === "subscription_removed") return this.#ask(room); // they may be here on another device
    if (event === "subscription_added" && !room.users.has(user) && user !== this.#me) {
      room.users.add(user);
      if (room.users.size < CROWD) room.note(`${user} came in`);
    }
    this.#drawPeople();
  }

  #drawPeople() {
    const { users } = this.#rooms.get(this.#here);
    const others = [...users].filter((user) => user !== this.#me).sort((a, b) => a.localeCompare(b));
    const shown = [this.#me, ...others].slice(0, 200);
    at("people").replaceChildren(...shown.map((user) => this.#person(user)));
    if (others.length >= shown.length) at("people").append(make("li", "more", `and ${others.length + 1 - shown.length} more`));
    at("people-count").textContent = others.length + 1;
    at("summary").textContent = others.length === 0 ? "nobody else is here" : `${others.length + 1} people`;
  }

  #person(user) {
    const item = make("li");
    item.dataset.testid = "person";
    item.dataset.user = user;
    item.append(face(user), make("span", "", user));
    if (user === this.#me) item.append(make("small", "", "you"));
    return item;
  }

  #drawChannels() {
    const rooms = [...this.#rooms.values()];
    at("channels").replaceChildren(...rooms.map((room) => this.#channel(room)));
    const unread = rooms.reduce((sum, room) => sum + room.unread, 0);
    at("menu-badge").hidden = unread === 0;
    at("menu-badge").textContent = unread;
    document.title = unread === 0 ? "Hauyna" : `(${unread}) Hauyna`;
  }

  #channel(room) {
    const item = make("li");
    const button = make("button", "plain channel", room.title);
    button.dataset.testid = `channel-${room.channel}`;
    if (room.channel === this.#here) button.setAttribute("aria-current", "page");
    button.addEventListener("click", () => (this.#go(room.channel), drawer(false)));
    if (room.unread > 0) button.append(make("span", "badge", room.unread), make("span", "unseen", "unread"));
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

  #show(state) {
    this.#state = state;
    at("state").dataset.state = state.name;
    at("cut").disabled = state.name !== "connected";
    at("retry").hidden = state.name !== "waiting" && state.name !== "closed";
    at("state-spoken").textContent = describe(state);
    at("state-word").textContent = describe(state);
    if (state.name === "closed") {
      this.#rooms.get(this.#here).note(`Disconnected for good (${state.code} ${state.reason}).`, "warn");
    }
    this.#tick();
  }

  /** What changes with time, or with every message. */
  #tick() {
    const { until } = this.#state;
    at("state-when").textContent = until ? `in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s` : "";
    const { offset } = this.#connection.position(this.#here) ?? {};
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
    else at("below").hidden = false;
  }

  #toEnd() {
    at("logs").scrollTop = at("logs").scrollHeight;
    at("below").hidden = true;
  }
}

function describe({ name, code }) {
  if (name === "waiting") return navigator.onLine ? "Reconnecting" : "Offline, reconnecting";
  if (name === "closed") return `Offline (${code})`;
  return name === "connected" ? "Connected" : "Connecting";
}

function grow() {
  const text = at("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

function drawer(open) {
  at("chat").classList.toggle("open", open);
  at("menu").ariaExpanded = String(open);
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
