// The presence page: a card for everybody who is there, and for those who were. What I say of myself is the protocol's
// own `update_status`; the list is the client's own, kept up to date by it.

import { face, make, time } from "/elements.js";
import { complain, connect, enter, isLost } from "/frame.js";

const OFFICE = "office";
const SILENCE = 2_000; // ms without a key after which nobody types any more
const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
const device = new URLSearchParams(location.search).get("device") ?? (innerWidth < 600 ? "phone" : "desk");
/** When somebody who is not there was last seen. */
const seen = new Map();
const typing = new Map();
let mine = { status: "online", activity: "" };

const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
const office = client.channel(OFFICE);
const past = client.channel("seen");
office.presence.on("leave", ({ user }) => seen.set(user, Date.now()));
office.presence.on("change", (presence) => {
  if ([...presence.users.values()].some(({ devices }) => !devices)) void presence.refresh();
  draw();
});
office.on("typing", (message) => (types(message), draw()));
office.onState(({ name }) => name === "subscribed" && (mine.status !== "online" || mine.activity) && tell({}));
past.on("seen", ({ user, timestamp }) => (seen.set(user, timestamp), draw()));
office.subscribe({ metadata: { device } }).catch(complain);
past.subscribe().then(load, complain);

async function load() {
  const { messages } = await past.history({ limit: 200 }).catch(() => ({ messages: [] }));
  for (const message of messages) seen.set(message.user, message.timestamp);
  draw();
}

// The others

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
  const { status, ...fields } = mine;
  await client.updateStatus(status, fields).then(() => complain(null), (problem) => isLost(problem) || complain(problem));
}

for (const button of document.querySelectorAll("button[data-status]")) {
  button.addEventListener("click", () => tell({ status: button.dataset.status }));
}
at("does").addEventListener("submit", (event) => (event.preventDefault(), tell({ activity: at("activity").value.trim() })));

let silence = 0;
at("draft").form.addEventListener("submit", (event) => event.preventDefault());
at("draft").addEventListener("input", () => {
  const say = (typing) => client.request("typing", { typing }, { volatile: true }).catch(() => {});
  if (!silence) say(true);
  clearTimeout(silence);
  silence = setTimeout(() => ((silence = 0), say(false)), SILENCE);
});

// The board

function draw() {
  const { users, count, isListed } = office.presence;
  at("count").textContent = isListed ? `${count} ${count === 1 ? "person" : "people"}` : `${count} people, too many to name`;
  const there = [...users].sort(([a], [b]) => (a === me ? -1 : b === me ? 1 : a.localeCompare(b)));
  const gone = [...seen].filter(([user]) => !users.has(user));
  at("people").replaceChildren(...there.map(card), ...gone.map(goneCard));
}

function card([user, { status, metadata, connections, devices }]) {
  const item = shell(user, status);
  const does = make("span", "does", typing.has(user) ? "is typing…" : (metadata?.activity ?? ""));
  does.classList.toggle("typing", typing.has(user));
  const chips = make("div", "chips");
  // A change says how many devices there are; which, the list says.
  const named = devices ?? Array.from({ length: connections });
  for (const device of named) chips.append(make("span", "chip", device?.metadata.device ?? "a device"));
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
