// The TypeScript clients of the torture run, in one process of Node: connects, publishes, and logs what each
// application receives, in the format of src/log.rs. It gets its orders as lines on its standard input.

import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Client, json, msgpack } from "../../clients/typescript/dist/node.js";

const { values } = parseArgs({
  options: Object.fromEntries(
    ["url", "language", "clients", "channels", "rate", "seed", "log"].map((name) => [name, { type: "string" }]),
  ),
});
const [count, channelCount, rate] = [values.clients, values.channels, values.rate].map(Number);
const log = createWriteStream(values.log);
let isOver = false;
let lastActivity = Date.now();
let unanswered = 0;
let random = Number(values.seed) >>> 0;

/** Returns a number below `bound` (mulberry32). */
function below(bound) {
  random = (random + 0x6d2b79f5) >>> 0;
  let value = Math.imul(random ^ (random >>> 15), random | 1);
  value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
  return ((value ^ (value >>> 14)) >>> 0) % bound;
}

function write(client, event, fields) {
  if (isOver) return;
  log.write(`${JSON.stringify({ at: Date.now(), client, event, ...fields })}\n`);
}

class Player {
  constructor(number) {
    this.name = `${values.language}-${number}`;
    this.sent = 0;
    this.client = new Client(`${values.url}?user=${this.name}`, {
      codec: number % 2 === 0 ? json : msgpack,
      logger: { debug() {}, info() {}, warn: console.warn, error: console.error },
    });
    this.client.onState((state) => {
      lastActivity = Date.now();
      const resumed = state.name === "connected" && state.session.resumed === true;
      write(this.name, "state", { state: state.name, resumed, reason: state.reason ?? "" });
    });
    const names = new Set([number % channelCount, (number + 1 + Math.floor(number / channelCount)) % channelCount]);
    this.channels = [...names].map((name) => this.client.channel(`room:${name}`));
    for (const channel of this.channels) this.listen(channel);
  }

  listen(channel) {
    channel.on("message", ({ content, offset }) => {
      lastActivity = Date.now();
      write(this.name, "got", { channel: channel.name, id: content.id, offset });
    });
    channel.onGap(({ reason, from, to }) => {
      lastActivity = Date.now();
      write(this.name, "gap", { channel: channel.name, reason, from: from ?? null, to: to ?? null });
    });
    for (const change of ["join", "leave"]) {
      channel.presence.on(change, ({ user }) => {
        write(this.name, "presence", { channel: channel.name, change, user });
      });
    }
  }

  async begin() {
    await this.client.connect();
    for (const channel of this.channels) {
      await channel.subscribe();
      write(this.name, "subscribed", { channel: channel.name });
    }
  }

  publish() {
    const channel = this.channels[below(this.channels.length)];
    const id = `${this.name}:${++this.sent}`;
    write(this.name, "sent", { channel: channel.name, id });
    unanswered += 1;
    channel
      .publish({ id, text: "some words as people write them in a room" })
      .then(
        ({ epoch, offset }) => write(this.name, "acked", { channel: channel.name, id, epoch, offset }),
        (error) => {
          const kind = error.kind === "refused" ? `refused: ${error.type}` : (error.kind ?? String(error));
          write(this.name, "failed", { channel: channel.name, id, error: kind });
        },
      )
      .finally(() => {
        unanswered -= 1;
        lastActivity = Date.now();
      });
  }
}

const players = Array.from({ length: count }, (_, number) => new Player(number));
await Promise.all(players.map((player) => player.begin()));
console.log("ready");

let publishing;
for await (const order of createInterface({ input: process.stdin })) {
  if (order === "go") {
    const began = Date.now();
    let published = 0;
    publishing = setInterval(() => {
      const due = ((Date.now() - began) * rate) / 1000;
      for (; published < due; published += 1) players[below(count)].publish();
    }, 5);
  } else if (order === "stop") {
    clearInterval(publishing);
    const settled = setInterval(() => {
      const isConnected = players.every(({ client }) => client.state.name === "connected");
      if (unanswered > 0 || !isConnected || Date.now() - lastActivity < 3000) return;
      clearInterval(settled);
      console.log("stopped");
    }, 100);
  } else if (order === "end") {
    for (const { name } of players) write(name, "closing", {});
    isOver = true;
    for (const { client } of players) client.close();
    const { user, system } = process.cpuUsage();
    await new Promise((resolve) => log.end(resolve));
    console.log(`cpu ${((user + system) / 1e6).toFixed(2)}`);
    break;
  }
}
process.exit(0);
