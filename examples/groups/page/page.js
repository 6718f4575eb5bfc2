// The groups page: who is in the team and as what, and what is announced to it. Every button is tried by the server:
// the page only hides what makes no sense.

import { face, make, time } from "/elements.js";
import { complain, connect, enter, isLost } from "/frame.js";

const at = (id) => document.getElementById(id);

const me = await enter("What shall the others call you?");
let members = [];
const client = connect(`/live?user_id=${encodeURIComponent(me)}`);
client.channel("roster").on("roster", (message) => draw((members = message.members)));
client.on("group", announced);

at("join").addEventListener("click", () => tried(client.request(mine() ? "leave" : "join")));
at("announce").addEventListener("submit", async (event) => {
  event.preventDefault();
  const message = { text: at("text").value };
  if (await tried(client.sendToGroup("team", message))) at("text").value = "";
});

/** Whether the server did it; if not, it is said why. */
async function tried(request) {
  try {
    await request;
    complain(null);
    return true;
  } catch (problem) {
    complain(isLost(problem) ? "The connection was lost." : problem);
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
    button(role === "admin" ? "Demote" : "Promote", user, "promote", { user, role: other }),
    button("Remove", user, "remove", { user }),
  );
  line.append(actions);
  return line;
}

function button(text, user, name, fields) {
  const made = make("button", "quiet", text);
  made.setAttribute("aria-label", `${text} ${user}`);
  made.addEventListener("click", () => tried(client.request(name, fields)));
  return made;
}
