// The first page: two people, each with a client of their own, and a button that cuts the socket of either. What one
// of them sees is person.js; how the connection lasts is the business of the client, hauyna.js.

import { showCode } from "/code.js";
import { Client } from "/hauyna.js";
import { Person } from "/person.js";

const PAUSE = 900; // ms between two lines that are written by themselves
const at = (id) => document.getElementById(id);

async function join(channel, name, person) {
  const url = `/chat?user_id=${name}`;
  const client = new Client(url, person.wire);
  const room = client.channel(channel);
  room.on("message", (said) => person.receive(said));
  room.onEvent("cursor", (at) => person.point(at));
  client.onState((state) => person.turn(state));
  person.start(client, room);
  await client.connect();
  await room.subscribe();
}

function say(room, text) {
  return room.publish(text); // waits while it is cut
}

function point(room, x, y) {
  room.send("cursor", { x, y }); // kept nowhere
}

/** Each visit has a channel of its own, which a reload of the page keeps. */
function channelOfVisit() {
  const kept = sessionStorage.getItem("hauyna.demo");
  const name = kept ?? `room:demo-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  sessionStorage.setItem("hauyna.demo", name);
  return name;
}

/** What the other one writes meanwhile. */
const lines = (other) => [
  `${other}? Your socket is cut.`,
  "I go on writing.",
  "The server numbers each of these,",
  "and keeps it for you.",
  `Press “Reconnect”, or wait.`,
];

class Script {
  #timer = 0;

  /** Writes one line after the other, until the other one is back. */
  start(writer, other) {
    const rest = lines(other.name);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (!at("writes").checked || !other.isAway || rest.length === 0) return clearInterval(this.#timer);
      writer.say(rest.shift());
    }, PAUSE);
  }
}

const channel = channelOfVisit();
const ann = new Person(at("ann"), "Ann", { say, point });
const ben = new Person(at("ben"), "Ben", { say, point });
for (const [person, other] of [[ann, ben], [ben, ann]]) {
  const script = new Script();
  person.onCut = () => script.start(other, person);
  person.onPublish = (text, sent) => person.isAway || other.expect(text, sent);
}
at("anew").addEventListener("click", () => {
  sessionStorage.removeItem("hauyna.demo");
  location.reload();
});
void showCode();
await Promise.all([ann, ben].map((person) => join(channel, person.name, person)));
if ((await ann.load()) + (await ben.load()) === 0) {
  await ann.say("Hello Ben, this goes over my WebSocket.");
  await ben.say("And this over mine. Cut one of us.");
}
