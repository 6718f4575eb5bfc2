// The orders page: what anybody posts to `/orders` appears here. The server has subscribed the page by itself.

import { make, time } from "/elements.js";
import { complain, connect } from "/frame.js";

const at = (id) => document.getElementById(id);

connect("/live").channel("orders").on("order", ({ item, offset, timestamp }) => {
  const line = make("li");
  line.dataset.testid = "line";
  line.append(make("small", "", offset), make("span", "grow", item), time(timestamp));
  at("orders").prepend(line);
});

at("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ item: at("item").value });
  const answer = await fetch("/orders", { method: "POST", headers: { "content-type": "application/json" }, body }).catch(() => null);
  complain(answer?.ok ? null : "The order was not taken.");
});
