// The states page: the state of this connection as the server sees it, how it would come back, and everybody's states.

import { face, make, time } from "/elements.js";
import { complain, connect, enter, isLost } from "/frame.js";

const MOST = 50; // changes on the page
const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
let since = Date.now();
let policy = null;

const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
client.onState(turned);
client.on("connection_state", ({ state }) => drawMine(state));
client.on("retry_policy", drawPolicy);
client.channel("board").on("counts", ({ counts }) => drawCounts(counts));
client.channel("board").on("changed", changed);

for (const button of document.querySelectorAll("button[data-state], button[data-event]")) {
  const { state, event } = button.dataset;
  button.addEventListener("click", () => ask(event ?? "set_state", event ? {} : { state }));
}
setInterval(() => (at("since").textContent = `for ${Math.floor((Date.now() - since) / 1000)} s`), 250);

async function ask(name, fields) {
  try {
    await client.request(name, fields);
    complain(null);
  } catch (problem) {
    complain(isLost(problem) ? null : problem);
  }
}

/** What the page itself knows of its connection: a beginning is not told, and an end cannot be. */
function turned({ name, attempt, reason, session }) {
  drawMine({ connected: "connected", connecting: "reconnecting", reconnecting: "reconnecting" }[name] ?? "disconnected");
  [...at("delays").children].forEach((item, n) => item.toggleAttribute("aria-current", n + 1 === attempt));
  if (attempt) at("policy").textContent = `Attempt ${attempt} of ${policy?.maxAttempts ?? "many"} is next.`;
  if (name === "closed") at("policy").textContent = `It ${reason}.`;
  if (name === "connected") drawPolicy(session.retry);
}

function drawMine(state) {
  if (at("mine").textContent !== state) since = Date.now();
  at("mine").textContent = state;
}

/** Delays that are shown of a policy without an end. */
const SHOWN = 8;

function drawPolicy(told) {
  policy = told;
  const { maxAttempts, baseDelay, maxDelay, backoffMultiplier, jitter } = told;
  at("policy").textContent = `${maxAttempts ?? "Endless"} attempts, each ×${backoffMultiplier} as late, at most ${maxDelay / 1000} s, ±${jitter * 100} %.`;
  const delay = (_, n) => make("li", "", `${+(Math.min(maxDelay, baseDelay * backoffMultiplier ** n) / 1000).toFixed(1)} s`);
  at("delays").replaceChildren(...Array.from({ length: maxAttempts ?? SHOWN }, delay));
}

function drawCounts(counts) {
  const figures = Object.entries(counts).map(([state, count]) => {
    const figure = make("div", count === 0 ? "none" : "");
    figure.dataset.testid = `count-${state}`;
    figure.append(make("dt", "", state), make("dd", "", count));
    return figure;
  });
  at("counts").replaceChildren(...figures);
}

function changed({ user, old, new: now, timestamp }) {
  const line = make("li");
  line.dataset.testid = "change";
  line.append(face(user), make("span", "grow", `${user}: ${old} → ${now}`), time(timestamp));
  at("log").prepend(line);
  while (at("log").children.length > MOST) at("log").lastChild.remove();
}
