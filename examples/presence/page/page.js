// The presence page: a card for everybody who is there, and for those who were. What I say of myself is the protocol's
// own `update_status`; the list is what `presence_state` gave and the changes since.

import { face, make, time } from "/elements.js";
import { complain, connect, enter } from "/frame.js";

const OFFICE = "office";
const SILENCE = 2_000; // ms without a key after which nobody types any more
const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
const device = new URLSearchParams(location.search).get("device") ?? (innerWidth < 600 ? "phone" : "desk");
/** Who is present, by name; null while they are too many to be named. */
let people = new Map();
let applied = 0;
let count = 0;
/** When somebody who is not there was last seen. */
const seen = new Map();
const typing = new Map();
let mine = { status: "online", activity: "" };

const connection = connect({ path: `/live?user_id=${encodeURIComponent(me)}` }, {
  subscribed,
  message: receive,
  problem: (_, problem) => complain(problem),
});
connection.subscribe(OFFICE, { device });
connection.subscribe("seen");

async function subscribed(channel) {
  if (channel === OFFICE && (mine.status !== "online" || mine.activity)) return tell({});
  if (channel !== "seen") return;
  const past = await connection.request({ type: "history", channel, limit: 200 }).catch(() => null);
  for (const message of past?.messages ?? []) seen.set(message.user, message.timestamp);
  draw();
}

// The others

function receive(message) {
  if (message.type === "presence_state") replace(message);
  else if (message.type === "presence_change") change(message);
  else if (message.type === "presence_diff") merge(message);
  else if (message.type === "occupancy") (people = null), (count = message.count);
  else if (message.type === "seen") seen.set(message.user, message.timestamp);
  else if (message.type === "typing") types(message);
  draw();
}

function replace({ users, offset, count: present }) {
  people = new Map(Object.entries(users));
  applied = offset;
  count = present;
}

function change({ event, user, status, metadata, connections, timestamp, offset }) {
  if (!people || offset <= applied) return;
  const skipped = offset > applied + 1;
  applied = offset;
  const before = people.get(user);
  if (event === "leave") {
    people.delete(user);
    seen.set(user, timestamp);
  } else {
    people.set(user, { ...before, status, metadata, connections: before?.connections ?? [] });
  }
  count = people.size;
  // A change says how many devices there are; which, the list says.
  if (skipped || (event !== "leave" && before?.connections.length !== connections)) ask();
}

function merge({ joins, updates, leaves, offset, count: present }) {
  if (!people || offset <= applied) return;
  for (const [user, entry] of [...Object.entries(joins), ...Object.entries(updates)]) people.set(user, entry);
  for (const user of leaves) people.delete(user);
  applied = offset;
  count = present;
}

let asking = 0;
function ask() {
  asking ||= setTimeout(async () => {
    asking = 0;
    const page = await connection.request({ type: "presence", channel: OFFICE }).catch(() => null);
    if (page && page.offset >= applied) replace(page);
    draw();
  }, 50);
}

function types({ user, typing: does }) {
  clearTimeout(typing.get(user));
  typing.delete(user);
  if (does) typing.set(user, setTimeout(() => (typing.delete(user), draw()), 2 * SILENCE));
}

// Myself

async function tell(change) {
  mine = { ...mine, ...change };
  for (const button of document.querySelectorAll("[data-status][aria-pressed]")) {
    button.ariaPressed = String(button.dataset.status === mine.status);
  }
  await connection.request({ type: "update_status", ...mine }).then(() => complain(null), (problem) => problem.lost || complain(problem));
}

for (const button of document.querySelectorAll("button[data-status]")) {
  button.addEventListener("click", () => tell({ status: button.dataset.status }));
}
at("does").addEventListener("submit", (event) => (event.preventDefault(), tell({ activity: at("activity").value.trim() })));

let silence = 0;
at("draft").form.addEventListener("submit", (event) => event.preventDefault());
at("draft").addEventListener("input", () => {
  const say = (typing) => connection.request({ type: "typing", typing }).catch(() => {});
  if (!silence) say(true);
  clearTimeout(silence);
  silence = setTimeout(() => ((silence = 0), say(false)), SILENCE);
});

// The board

function draw() {
  at("count").textContent = people ? `${count} ${count === 1 ? "person" : "people"}` : `${count} people, too many to name`;
  const there = [...(people ?? [])].sort(([a], [b]) => (a === me ? -1 : b === me ? 1 : a.localeCompare(b)));
  const gone = [...seen].filter(([user]) => !people?.has(user));
  at("people").replaceChildren(...there.map(card), ...gone.map(goneCard));
}

function card([user, { status, metadata, connections }]) {
  const item = shell(user, status);
  const does = make("span", "does", typing.has(user) ? "is typing…" : (metadata?.activity ?? ""));
  does.classList.toggle("typing", typing.has(user));
  const chips = make("div", "chips");
  for (const { metadata } of connections) chips.append(make("span", "chip", metadata?.device ?? "a device"));
  item.append(does, chips);
  return item;
}

function goneCard([user, since]) {
  const item = shell(user, "offline");
  const does = make("span", "does", "last seen ");
  does.append(time(since));
  item.append(does);
  return item;
}

function shell(user, status) {
  const item = make("li");
  item.dataset.testid = `person-${user}`;
  item.dataset.status = status;
  const name = make("span", "", "");
  name.append(make("strong", "", user), user === me ? " (you) " : " ", make("span", "state", status));
  item.append(face(user), name);
  return item;
}
