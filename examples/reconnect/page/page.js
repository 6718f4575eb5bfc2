// The reconnect page: one channel, and what the client makes of its connection. The position outlives a reload of the
// page, so that what was missed meanwhile comes, too.

import { make, time } from "/elements.js";
import { connect, isLost } from "/frame.js";

const SHOWN = innerWidth < 600 ? 90 : 240; // numbers in the strip
const at = (id) => document.getElementById(id);

/** What outlives a reload: the position in the channel, and the figures. */
const kept = JSON.parse(sessionStorage.getItem("kept") ?? "null") ?? {
  position: undefined, last: null, received: 0, recovered: 0, lost: 0, doubled: 0,
};
/** The number of the last publication that is replayed rather than live. */
let replayedTo = 0;
let replayed = 0;
let away = null;

const client = connect("/live");
const numbers = client.channel("numbers");
client.onState(({ name }) => turned(name));
numbers.on("number", take);
numbers.onState(({ recovered }) => recovered && recovering(recovered));
numbers.onGap(({ reason }) => {
  note(`Too much was missed for one recovery (${reason}): counting starts anew.`);
  kept.last = away = null;
});
numbers.subscribe({ since: kept.position });
at("long").addEventListener("click", () => client.network.cut(15_000));
at("server").addEventListener("click", () => client.request("cut_me_off").catch((problem) => isLost(problem) || note(problem.message)));
draw();

// The connection

function turned(name) {
  at("server").disabled = at("long").disabled = name !== "connected";
  if (name === "reconnecting") away ??= { since: Date.now() };
}

/** Everything between these two positions follows now, in order. */
function recovering({ from, to }) {
  replayedTo = to.offset;
  replayed = 0;
  if (to.offset === from.offset) back();
}

function take({ n, offset }) {
  if (n === kept.last) return (kept.doubled += 1), draw();
  const missing = kept.last === null ? 0 : n - kept.last - 1;
  const isReplayed = offset <= replayedTo;
  kept.lost += missing;
  kept.last = n;
  kept.position = numbers.position;
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
