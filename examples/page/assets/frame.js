// The frame around every example's page: who uses it, how its connection is, and a button that cuts it.

import { face, make } from "/elements.js";
import { showCode } from "/code.js";
import { Client } from "/hauyna.js";
import { CutButton, Network, look } from "/network.js";

const CUT = 4_000; // ms without a network, at the press of a button
const at = (id) => document.getElementById(id);

void showCode();
for (const input of document.querySelectorAll("input:not([type]), textarea")) input.dir = "auto";

/** Asks for a name, once per window; `?name=ann` in the address answers it. */
export async function enter(question = "What is your name?") {
  const given = new URLSearchParams(location.search).get("name") ?? sessionStorage.getItem("hauyna.name");
  const name = given?.trim() || (await ask(question));
  sessionStorage.setItem("hauyna.name", name);
  const leave = make("button", "plain", "Leave");
  leave.dataset.testid = "leave";
  leave.addEventListener("click", () => {
    sessionStorage.removeItem("hauyna.name");
    location.assign(location.pathname);
  });
  const me = make("div", "me");
  const shown = make("strong", "", name);
  shown.dir = "auto";
  shown.title = name;
  me.append(face(name), shown, leave);
  document.querySelector(".bar h1").after(me);
  document.querySelector("main").hidden = false;
  return name;
}

function ask(question) {
  const door = make("div", "door");
  door.setAttribute("role", "main"); // the page itself is hidden meanwhile
  const card = make("form", "card");
  const label = make("label", "", question);
  const field = make("div", "field");
  const input = make("input");
  Object.assign(input, { id: "name", required: true, maxLength: 32, autocomplete: "nickname", spellcheck: false });
  input.placeholder = "Your name";
  input.dir = "auto";
  input.dataset.testid = "name-input";
  label.htmlFor = "name";
  const button = make("button", "primary", "Enter");
  button.dataset.testid = "enter";
  field.append(input, button);
  const lead = document.querySelector("meta[name=description]").content;
  card.append(make("h2", "", document.querySelector(".bar h1").textContent), make("p", "", lead), label, field);
  card.append(make("p", "hint", "Open the page in a second window to be two."));
  door.append(card);
  document.body.append(door);
  input.focus();
  return new Promise((entered) => {
    card.addEventListener("submit", (event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (name === "") return;
      door.remove();
      entered(name);
    });
  });
}

/** A client that connects, and whose state is shown. Listen to it before you wait for anything. */
export function connect(path, options = {}) {
  const network = new Network();
  const client = new Client(path, { ...network.options, ...options });
  const retry = () => (network.mend(), client.reconnect());
  const show = showState({ retry, cut: () => network.cut(CUT) });
  client.onState((state) => show({ ...state, name: look(state), until: state.retryAt ?? network.backAt }));
  client.onError(complain);
  client.connect().catch(() => {}); // how it is going is shown
  return Object.assign(client, { network });
}

/** Whether it failed for want of a connection rather than by the server's will. */
export function isLost({ kind }) {
  return kind !== "refused" && kind !== "invalid";
}

/** Puts the state of a connection into the bar; gives the function that changes it. */
export function showState({ retry, cut }) {
  const pill = make("div", "link");
  pill.dataset.testid = "state";
  const dot = make("span", "dot");
  dot.setAttribute("aria-hidden", "true");
  const words = make("span");
  words.setAttribute("aria-hidden", "true");
  pill.append(dot, words);
  const spoken = make("p", "unseen");
  spoken.setAttribute("role", "status");
  const button = make("button", "cut");
  const cutButton = new CutButton(button, { cut, retry });
  document.querySelector(".bar").append(pill, spoken, button);

  let state = { name: "connecting" };
  const draw = () => {
    const seconds = state.until ? Math.max(0, Math.ceil((state.until - Date.now()) / 1000)) : 0;
    words.textContent = state.until ? `Back in ${seconds} s` : describe(state);
  };
  setInterval(draw, 250);
  return (next) => {
    state = next;
    pill.dataset.state = document.body.dataset.state = state.name;
    cutButton.show(state.name);
    spoken.textContent = describe(state);
    draw();
  };
}

function describe({ name, code }) {
  if (name === "closed") return `Closed (${code})`;
  return { connected: "Connected", waiting: "Reconnecting" }[name] ?? "Connecting";
}

/** Says what went wrong where it is seen and heard; null takes it away. */
export function complain(problem) {
  at("fault").textContent = problem ? (problem.message ?? String(problem)) : "";
}
