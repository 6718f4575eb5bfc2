// The axum example: orders that are posted over HTTP appear on every open page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("axum");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

test("an order appears on every page, by any client", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  const bob = await Person.visit(browser, example.url, "Bob", { ...PHONE, colorScheme: "dark" });
  await bob.at("item").fill("<b>Tea</b>");
  await bob.at("send").click();
  await ann.shows("line", "<b>Tea</b>");
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${example.url}/orders`, { method: "POST", headers, body: '{"item":"Mate"}' });
  assert.equal(answer.status, 201);
  await ann.shows("line", "Mate");
  await bob.shows("line", "Mate");
  await fits(bob, "the orders");
  await ann.shot("axum");
  await bob.shot("axum-phone", { fullPage: true });
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});
