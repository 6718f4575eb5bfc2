// The notifications page: a bell with what is unread. The position up to which I have read outlives the page, so
// that what came meanwhile is there, and unread, when it is opened again.

import { make, time } from "/elements.js";
import { complain, connect, enter } from "/frame.js";

const MOST = 100; // notifications on the page
const at = (id) => document.getElementById(id);

const me = await enter("Whose notifications are these?");
const mine = `notifications:${me}`;
const store = `read.${me}`;
/** The notifications of this epoch of the channel, by offset. */
const shown = new Map();
let read = JSON.parse(localStorage.getItem(store) ?? "null");

const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
const bell = client.channel(mine);
bell.on("notification", (message) => (add(message), draw()));
bell.onGap(load); // what was missed comes by itself, but for this
bell.subscribe().then(load, complain);

async function load() {
  const past = await bell.history({ limit: MOST, reverse: true }).catch(() => null);
  if (!past) return;
  const { epoch } = past.position;
  if (read?.epoch !== epoch) read = { epoch, offset: 0 };
  for (const message of past.messages) add(message);
  draw();
}

function add({ text, timestamp, offset }) {
  if (shown.has(offset)) return;
  const line = make("li");
  line.dataset.testid = "notification";
  line.dataset.offset = offset;
  line.append(make("span", "grow", text), time(timestamp));
  shown.set(offset, line);
  const older = [...at("mine").children].find((other) => Number(other.dataset.offset ?? 0) < offset);
  at("mine").insertBefore(line, older ?? null);
  if (shown.size > MOST) remove(Math.min(...shown.keys()));
}

function remove(offset) {
  shown.get(offset).remove();
  shown.delete(offset);
}

function draw() {
  let unread = 0;
  for (const [offset, line] of shown) {
    const isUnread = offset > (read?.offset ?? 0);
    line.classList.toggle("unread", isUnread);
    unread += isUnread;
  }
  at("unread").textContent = unread;
  at("unread").hidden = unread === 0;
  at("read").disabled = unread === 0;
  at("spoken").textContent = `${unread} unread`;
  document.title = unread === 0 ? "Notifications" : `(${unread}) Notifications`;
}

at("read").addEventListener("click", () => {
  read = { ...read, offset: Math.max(...shown.keys()) };
  localStorage.setItem(store, JSON.stringify(read));
  draw();
});

at("to").value = me;
at("to").addEventListener("input", drawCommand);
drawCommand();

function drawCommand() {
  const body = JSON.stringify({ to: at("to").value, text: "hello" }).replaceAll("'", "'\\''");
  at("curl").textContent = `curl ${location.origin}/notifications -H 'content-type: application/json' -d '${body}'`;
}

at("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ to: at("to").value, text: at("text").value });
  const headers = { "content-type": "application/json" };
  const answer = await fetch("/notifications", { method: "POST", headers, body }).catch(() => null);
  const words = answer ? await answer.text() : "The server did not answer.";
  complain(answer?.ok ? null : words);
  at("sent").textContent = answer?.ok ? `Sent: heard by ${words}.` : "";
  if (answer?.ok) at("text").value = "";
});
