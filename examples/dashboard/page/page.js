// The dashboard page: the counts of the last second, and a minute of deliveries. Rates are differences of two counts.

import { make } from "/elements.js";
import { complain, connect, isLost } from "/frame.js";

const SECONDS = 60; // in the chart
const at = (id) => document.getElementById(id);
const rates = [];
let before = null;

const client = connect("/live");
client.onState(({ name }) => name !== "connected" && (before = null));
client.channel("stats").on("stats", ({ stats, memory, timestamp }) => draw(stats, memory, timestamp));
at("noise").addEventListener("click", () =>
  client.request("noise", { messages: 500 }).then(() => complain(null), (problem) => isLost(problem) || complain(problem)));

function draw(stats, memory, timestamp) {
  const seconds = before ? (timestamp - before.timestamp) / 1000 : 0;
  const rate = (count) => (seconds > 0 ? (stats[count] - before.stats[count]) / seconds : 0);
  rates.push(rate("delivered"));
  if (rates.length > SECONDS) rates.shift();
  const figures = {
    connections: stats.connections,
    subscriptions: stats.subscriptions,
    "delivered / s": rates.at(-1),
    "KiB sent / s": rate("bytes_sent") / 1024,
    "requests": stats.requests,
    refused: stats.refused,
    dropped: stats.dropped,
    "memory, KiB": memory / 1024,
  };
  before = { stats, timestamp };
  at("figures").replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const figure = make("div");
    figure.dataset.testid = `figure-${name}`;
    figure.append(make("dt", "", name), make("dd", "", Math.round(value).toLocaleString()));
    return figure;
  }));
  chart();
}

function chart() {
  const most = Math.max(10, ...rates);
  const x = (n) => 600 - (rates.length - 1 - n) * (600 / (SECONDS - 1));
  const points = rates.map((rate, n) => `${x(n).toFixed(1)} ${(116 - (rate / most) * 108).toFixed(1)}`);
  at("line").setAttribute("d", `M${points.join("L")}`);
  at("area").setAttribute("d", `M${x(0).toFixed(1)} 120L${points.join("L")}L600 120Z`);
  at("most").textContent = `at most ${Math.round(most).toLocaleString()}`;
}
