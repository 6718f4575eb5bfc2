// The events page: an order, what each listener did with it, and the question that one of them asks back.

import { make, time } from "/elements.js";
import { complain, connect, enter } from "/frame.js";

const MOST = 50; // news on the page
const at = (id) => document.getElementById(id);

const me = await enter("Who is ordering?");
const connection = connect({ path: `/live?user_id=${encodeURIComponent(me)}` }, {
  state: ({ name }) => ((at("send").disabled = name !== "connected"), name !== "connected" && at("question").close("no")),
  message: receive,
  request: answer,
  problem: (_, problem) => complain(problem),
});

at("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const line of at("steps").children) step(line, "", "");
  at("outcome").textContent = "On its way…";
  at("send").disabled = true;
  try {
    const order = { type: "order", item: at("item").value, cups: at("cups").valueAsNumber };
    const { ran, stopped, failed } = await connection.request(order);
    complain(null);
    at("outcome").textContent = `${ran} listeners ran, ${failed} failed${stopped ? ", and one stopped the others" : ""}.`;
  } catch (problem) {
    at("outcome").textContent = "";
    complain(problem.lost ? "The connection was lost." : problem);
  }
  at("send").disabled = false;
});

function receive({ type, listener, text, user, item, cups, timestamp }) {
  if (type === "step") {
    const line = at("steps").querySelector(`[data-listener="${CSS.escape(listener)}"]`);
    const kind = text.endsWith("stopped") ? "stopped" : text.includes("fails") ? "failed" : "ran";
    if (line) step(line, kind, text);
  }
  if (type === "news") tell(text, timestamp);
  if (type === "ordered") tell(`${user} ordered ${cups} × ${item}`, timestamp);
}

function step(line, kind, text) {
  line.className = kind;
  line.lastElementChild.textContent = text;
}

function tell(text, timestamp) {
  const line = make("li");
  line.dataset.testid = "news-line";
  line.append(make("span", "grow", text), time(timestamp));
  at("news").prepend(line);
  while (at("news").children.length > MOST) at("news").lastChild.remove();
}

/** What the server asks: the dialog's answer is the answer. */
function answer(event, { text }) {
  if (event !== "confirm") throw new Error(`nobody here knows \`${event}\``);
  const dialog = at("question");
  at("question-text").textContent = text;
  dialog.returnValue = "no"; // Escape is a no, too
  dialog.showModal();
  return new Promise((answered) => {
    dialog.addEventListener("close", () => answered(dialog.returnValue === "yes"), { once: true });
  });
}
