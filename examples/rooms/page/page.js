// The rooms page: which rooms I am in, who else is, what is said. It enters by the protocol's own subscription, so
// that what was said while the connection was lost comes after it.

import { face, make, time } from "/elements.js";
import { complain, connect, enter, isLost } from "/frame.js";

const ROOMS = ["garden", "kitchen", "library"];
const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
/** The rooms I am in, by name. */
const entered = new Map();
let here = null;
/** What could not be sent. It keeps its key, so that it is said once. */
let unsent = null;

const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
client.onState(({ name }) => (at("send").disabled = name !== "connected"));
for (const name of JSON.parse(sessionStorage.getItem("rooms") ?? "[]")) join(name);
draw();

at("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("room").value.trim().toLowerCase().replace(/\s+/g, "-");
  if (name !== "") join(name);
  at("room").value = "";
});
at("leave").addEventListener("click", () => leave(here));
at("say").addEventListener("submit", (event) => (event.preventDefault(), say()));

// In and out

function join(name) {
  if (!entered.has(name)) {
    const log = make("ol", "log");
    log.dataset.testid = "log";
    const heard = make("div");
    heard.setAttribute("role", "log");
    heard.setAttribute("aria-label", `Messages in ${name}`);
    heard.append(log);
    at("logs").append(heard);
    const room = { name, log, people: {}, unread: 0, shown: new Set(), channel: client.channel(`room:${name}`) };
    entered.set(name, room);
    follow(room);
  }
  go(name);
}

function leave(name) {
  const { log, channel, offs } = entered.get(name);
  for (const off of offs) off();
  void channel.unsubscribe();
  log.parentElement.remove();
  entered.delete(name);
  go([...entered.keys()].at(-1) ?? null);
}

function go(name) {
  here = name;
  for (const [other, { log }] of entered) log.hidden = other !== here;
  if (here) entered.get(here).unread = 0;
  sessionStorage.setItem("rooms", JSON.stringify([...entered.keys()]));
  draw();
  at("logs").scrollTop = at("logs").scrollHeight;
}

/** Subscribes, and listens until the room is left. */
function follow(room) {
  const { channel } = room;
  room.offs = [
    channel.on("room_message", (message) => heard(room, message)),
    channel.on("channel_event", (message) => comesOrGoes(room, message)),
    channel.onState((state) => subscribed(room, state)),
    channel.onGap(() => (note(room, "You are back, and missed some of it."), load(room))),
  ];
  channel.subscribe().then(() => load(room), () => {});
}

function subscribed(room, { name, recovered, error }) {
  if (error) return complain(error), leave(room.name);
  if (name === "subscribed") ask(room);
  if (recovered) note(room, "You are back, and missed nothing.");
}

async function load(room) {
  const { messages } = await room.channel.history({ limit: 200 }).catch(() => ({ messages: [] }));
  for (const message of messages) add(room, message);
}

// What is said, and who is there

async function say() {
  const content = at("text").value.trim();
  if (content === "") return;
  const again = unsent?.content === content && unsent.room === here;
  const message = again ? unsent : { room: here, content, key: crypto.randomUUID() };
  at("text").value = "";
  try {
    await client.request("room_message", message, { repeatable: true }); // it has a key
    unsent = null;
    complain(null);
  } catch (problem) {
    unsent = message;
    at("text").value ||= content;
    complain(isLost(problem) ? "The connection was lost: send it again, it will be said once." : problem);
  }
}

function heard(room, message) {
  if (add(room, message) && room.name !== here) room.unread += 1;
  draw();
}

function comesOrGoes(room, { event, user }) {
  const words = { subscription_added: "came in", subscription_removed: "left" }[event];
  if (words && user !== me) note(room, `${user} ${words}`);
  ask(room);
}

/** Shows a message at its place, once. */
function add(room, { user, content, timestamp, offset }) {
  if (room.shown.has(offset)) return false;
  room.shown.add(offset);
  const line = make("li");
  line.dataset.testid = "message";
  line.dataset.offset = offset;
  line.append(face(user), make("strong", "", user), time(timestamp), make("p", "", content));
  const next = [...room.log.children].find((other) => Number(other.dataset.offset) > offset);
  put(room, line, next);
  return true;
}

function note(room, text) {
  put(room, make("li", "note", text));
}

function put(room, line, before = null) {
  const { scrollHeight, scrollTop, clientHeight } = at("logs");
  const follow = scrollHeight - scrollTop - clientHeight < 60;
  room.log.insertBefore(line, before);
  if (follow) at("logs").scrollTop = at("logs").scrollHeight;
}

/** Asks who is in, soon and once, however many come and go meanwhile. */
function ask(room) {
  room.asking ??= setTimeout(async () => {
    room.asking = undefined;
    const answer = await client.request("room_people", { room: room.name }).catch(() => null);
    if (answer) room.people = answer.people;
    draw();
  }, 100);
}

function draw() {
  const names = [...new Set([...ROOMS, ...entered.keys()])];
  at("rooms").replaceChildren(...names.map(row));
  const room = entered.get(here);
  at("title").textContent = here ?? "No room yet";
  at("leave").hidden = at("say").hidden = !room;
  at("people").replaceChildren(...Object.entries(room?.people ?? {}).map(person));
}

function row(name) {
  const room = entered.get(name);
  const button = make("button", "plain", name);
  button.dataset.testid = `room-${name}`;
  if (name === here) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => join(name));
  if (room?.unread) button.append(make("span", "badge", room.unread), make("span", "unseen", "unread"));
  if (room) button.append(make("small", "", `${Object.keys(room.people).length} in`));
  const item = make("li");
  item.append(button);
  return item;
}

function person([name, devices]) {
  const item = make("li", "chip");
  item.dataset.testid = "person";
  item.append(face(name), make("span", "", name));
  if (devices > 1) item.append(make("small", "soft", `${devices} devices`));
  return item;
}
