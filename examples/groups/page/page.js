// The groups page: who is in the team and as what, and what is announced to it. Every button is tried by the server:
// the page only hides what makes no sense.

import { face, make, time } from "/elements.js";
import { complain, connect, enter } from "/frame.js";

const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
let members = [];
const connection = connect({ path: `/live?user_id=${encodeURIComponent(me)}` }, {
  message(message) {
    if (message.type === "roster") draw((members = message.members));
    if (message.type === "group") announced(message);
  },
  problem: (_, problem) => complain(problem),
});

at("join").addEventListener("click", () => ask({ type: mine() ? "leave" : "join" }));
at("announce").addEventListener("submit", async (event) => {
  event.preventDefault();
  const message = { text: at("text").value };
  if (await ask({ type: "group", room: "team", message })) at("text").value = "";
});

/** Whether the server did it; if not, it is said why. */
async function ask(request) {
  try {
    await connection.request(request);
    complain(null);
    return true;
  } catch (problem) {
    complain(problem.lost ? "The connection was lost." : problem);
    return false;
  }
}

const mine = () => members.find((member) => member.user === me);

function announced({ from, message, timestamp }) {
  const line = make("li");
  line.dataset.testid = "announcement";
  line.append(face(from), make("strong", "grow", from), time(timestamp), make("p", "", message.text));
  at("said").prepend(line);
}

function draw() {
  const role = mine()?.role;
  at("mine").textContent = role ? `You are ${role === "admin" ? "an administrator" : "a member"}.` : "";
  at("join").textContent = role ? "Leave the team" : "Join the team";
  const rows = members.map((member) => row(member, role === "admin" && member.user !== me));
  at("members").replaceChildren(at("members").querySelector(".empty"), ...rows);
}

function row({ user, role, here }, mayChange) {
  const line = make("li", here ? "" : "gone");
  line.dataset.testid = `member-${user}`;
  const name = make("span", "grow", user);
  if (!here) name.append(make("small", "", " away"));
  const chip = make("span", "chip", role === "admin" ? "administrator" : role);
  chip.dataset.role = role;
  line.append(face(user), name, chip);
  if (!mayChange) return line;
  const other = role === "admin" ? "member" : "admin";
  const actions = make("span", "actions");
  actions.append(
    button(role === "admin" ? "Demote" : "Promote", user, { type: "promote", user, role: other }),
    button("Remove", user, { type: "remove", user }),
  );
  line.append(actions);
  return line;
}

function button(text, user, request) {
  const made = make("button", "quiet", text);
  made.setAttribute("aria-label", `${text} ${user}`);
  made.addEventListener("click", () => ask(request));
  return made;
}
