// The auth page: a token from a login, kept in memory alone; a connection that shows it at the handshake, renews it
// while connected, and goes when it has ended.

import { make, time } from "/elements.js";
import { complain, connect, isLost } from "/frame.js";

const EARLY = 5_000; // ms before its end at which a token is renewed
const at = (id) => document.getElementById(id);

let token = null;
let expires = 0;
let client = null;
let auto = true;
let renewing = false;

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ name: at("name").value, password: at("password").value });
  const answer = await fetch("/login", { method: "POST", headers: { "content-type": "application/json" }, body }).catch(() => null);
  if (!answer?.ok) return complain(answer?.status === 401 ? "That is not the password." : "The server cannot log you in.");
  complain(null);
  token = await answer.text();
  at("password").value = "";
  at("token").hidden = at("doing").hidden = false;
  if (client) return client.reconnect();
  // The page renews by itself, or the person does: to be seen.
  client = connect("/live", { getToken: ({ isRefresh }) => (isRefresh ? undefined : token) });
  client.onState(turned);
});

/** A token that has ended opens nothing: it is for the person to log in again. */
function turned({ name, reason, session }) {
  if (name === "connected") {
    expires = session.expiresAt;
    note(`Connected as ${session.user}.`);
  }
  const isOver = name === "reconnecting" && token && Date.now() >= expires;
  if (!isOver) return;
  note(`The connection was closed: ${reason || "the token has ended"}. Log in again.`);
  token = null;
  setTimeout(() => client.close());
}

async function renew() {
  if (renewing || !token) return;
  renewing = true;
  try {
    const answer = await fetch("/renew", { method: "POST", headers: { authorization: `Bearer ${token}` } });
    if (!answer.ok) throw new Error("The server does not renew it.");
    token = await answer.text();
    const renewed = await client.request("refresh", { token });
    expires = renewed.expires_at;
    note("The token is renewed, the connection is the same.");
  } catch (problem) {
    note(problem.kind && isLost(problem) ? "The connection was lost." : problem.message);
  }
  renewing = false;
}

async function ask(request, tell) {
  try {
    note(tell(await request));
  } catch (problem) {
    note(isLost(problem) ? "Not connected." : `Refused: ${problem.message} (${problem.type})`);
  }
}

at("renew").addEventListener("click", renew);
at("auto").addEventListener("click", () => {
  auto = !auto;
  at("auto").ariaPressed = String(auto);
});
at("who").addEventListener("click", () =>
  ask(client.request("who_am_i", {}, { volatile: true }), ({ user, role, browser }) => `You are ${user}, ${role}, with ${browser}.`));
at("staff").addEventListener("click", () =>
  ask(client.channel("staff").subscribe(), () => "You are in the staff room."));

setInterval(() => {
  const left = token ? Math.max(0, expires - Date.now()) : 0;
  at("life").value = left / 1000;
  at("left").textContent = token ? `${Math.ceil(left / 1000)} s left` : "ended";
  if (auto && token && left > 0 && left < EARLY) renew();
}, 250);

function note(text) {
  const line = make("li");
  line.dataset.testid = "note";
  line.append(make("span", "grow", text), time(Date.now()));
  at("log").prepend(line);
  if (at("log").children.length > 50) at("log").lastChild.remove();
}
