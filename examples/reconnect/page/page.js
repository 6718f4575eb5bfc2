// The reconnect page, with all of its client in it: one socket, a position, and coming back. `/connection.js` does
// the same for many channels, and adds heartbeats and an outbox.

import { make, time } from "/elements.js";
import { complain, showState } from "/frame.js";

const SHOWN = innerWidth < 600 ? 90 : 240; // numbers in the strip
const at = (id) => document.getElementById(id);

/** What outlives a reload: the position in the channel, and the figures. */
const kept = JSON.parse(sessionStorage.getItem("kept") ?? "null") ?? {
  position: null, last: null, received: 0, recovered: 0, lost: 0, doubled: 0,
};
/** The number of the last publication that is replayed rather than live. */
let replayedTo = 0;
let replayed = 0;
let socket = null;
let away = null;
let attempt = 0;
let timer = 0;
let retry = { base_delay: 500, max_delay: 5_000, backoff_multiplier: 1.5, jitter: 0.1 };
const show = showState({ retry: open, cut: () => cut(4_000) });

at("long").addEventListener("click", () => cut(15_000));
at("server").addEventListener("click", () => socket.send(JSON.stringify({ type: "cut_me_off" })));
open();
draw();

// The connection

function open() {
  clearTimeout(timer);
  show({ name: "connecting" });
  const opened = new WebSocket(new URL("/live", location.href.replace(/^http/, "ws")), ["hauyna.v1.json"]);
  opened.onmessage = (event) => opened === socket && receive(JSON.parse(event.data));
  opened.onclose = ({ code }) => opened === socket && lost(code);
  opened.onopen = () => {
    show({ name: "connected" });
    at("server").disabled = at("long").disabled = false;
    const recover = kept.position ?? undefined;
    opened.send(JSON.stringify({ type: "subscribe_channel", id: 1, channel: "numbers", recover }));
  };
  socket = opened;
}

/** Plays a network that is gone for a while: nothing is read and nothing tried before it is over. */
function cut(duration) {
  const old = socket;
  lost(1006, duration);
  old.close(4000, "coming back");
}

function lost(code, gone = 0) {
  socket = null;
  at("server").disabled = at("long").disabled = true;
  away ??= { since: Date.now(), code };
  attempt += 1;
  if (attempt > (retry.max_attempts ?? Infinity)) return show({ name: "closed", code });
  const { base_delay, max_delay, backoff_multiplier, jitter } = retry;
  const delay = Math.min(max_delay, base_delay * backoff_multiplier ** (attempt - 1));
  const until = Date.now() + gone + delay * (1 + jitter * (2 * Math.random() - 1));
  show({ name: "waiting", until });
  timer = setTimeout(open, until - Date.now());
}

function receive(message) {
  if (message.type === "session") retry = message.retry ?? retry;
  if (message.type === "ack" && message.id === 1) subscribed(message.data);
  if (message.type === "number") take(message);
  if (message.type === "error") complain(message);
}

// The position

function subscribed({ epoch, offset, recovered, reason }) {
  attempt = 0;
  if (recovered) {
    replayedTo = offset; // everything between the position and here follows now, in order
    replayed = 0;
    if (offset === kept.position.offset) back();
    return;
  }
  if (kept.position) note(`Too much was missed for one recovery (${reason}): counting starts anew.`);
  kept.position = { epoch, offset };
  kept.last = null;
  away = null;
}

function take({ n, offset }) {
  if (offset <= kept.position.offset || n === kept.last) return (kept.doubled += 1), draw();
  const missing = kept.last === null ? 0 : n - kept.last - 1;
  const isReplayed = offset <= replayedTo;
  kept.lost += missing;
  kept.last = n;
  kept.position.offset = offset;
  kept.received += 1;
  kept.recovered += isReplayed;
  replayed += isReplayed;
  for (let i = 0; i < Math.min(missing, SHOWN); i += 1) at("strip").append(make("span", "cell lost"));
  at("strip").append(make("span", isReplayed ? "cell recovered" : "cell"));
  while (at("strip").children.length > SHOWN) at("strip").firstChild.remove();
  if (offset === replayedTo) back();
  draw();
}

/** All that was missed is here. */
function back() {
  const how = away ? `Away for ${((Date.now() - away.since) / 1000).toFixed(1)} s` : "The page was reloaded";
  note(`${how}: ${replayed} ${replayed === 1 ? "number" : "numbers"} recovered, in order.`);
  away = null;
}

// The page

function note(text) {
  const line = make("li");
  line.append(make("span", "grow", text), time(Date.now()));
  at("log").prepend(line);
}

function draw() {
  sessionStorage.setItem("kept", JSON.stringify(kept));
  for (const figure of ["received", "recovered", "lost", "doubled"]) at(figure).textContent = kept[figure].toLocaleString();
  at("last").textContent = kept.last?.toLocaleString() ?? "–";
  for (const figure of ["lost", "doubled"]) at(figure).parentElement.classList.toggle("wrong", kept[figure] > 0);
}
