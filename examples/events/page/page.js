// The events page: an order, what each listener did with it, and the question that one of them asks back.

import { make, time } from "/elements.js";
import { complain, connect, enter, isLost } from "/frame.js";

const MOST = 50; // news on the page
const at = (id) => document.getElementById(id);

const me = await enter("Who is ordering?");
const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
client.onState(({ name }) => ((at("send").disabled = name !== "connected"), name !== "connected" && at("question").close("no")));
client.on("step", work);
client.channel("news").on("news", ({ text, timestamp }) => tell(text, timestamp));
client.channel("news").on("ordered", ({ user, item, cups, timestamp }) => tell(`${user} ordered ${cups} × ${item}`, timestamp));
client.onRequest("confirm", answer);

at("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const line of at("steps").children) step(line, "", "");
  at("outcome").textContent = "On its way…";
  at("send").disabled = true;
  try {
    const order = { item: at("item").value, cups: at("cups").valueAsNumber };
    const { ran, stopped, failed } = await client.request("order", order, { timeout: 60_000 });
    complain(null);
    at("outcome").textContent = `${ran} listeners ran, ${failed} failed${stopped ? ", and one stopped the others" : ""}.`;
  } catch (problem) {
    at("outcome").textContent = "";
    complain(isLost(problem) ? "The connection was lost." : problem);
  }
  at("send").disabled = false;
});

function work({ listener, text }) {
  const line = at("steps").querySelector(`[data-listener="${CSS.escape(listener)}"]`);
  const kind = text.endsWith("stopped") ? "stopped" : text.includes("fails") ? "failed" : "ran";
  if (line) step(line, kind, text);
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
function answer({ text }) {
  const dialog = at("question");
  at("question-text").textContent = text;
  dialog.returnValue = "no"; // Escape is a no, too
  dialog.showModal();
  return new Promise((answered) => {
    dialog.addEventListener("close", () => answered(dialog.returnValue === "yes"), { once: true });
  });
}
