// The events example: listeners by priority, and a client request that the page answers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("events");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

async function order(person, cups) {
  await person.at("cups").fill(String(cups));
  await person.at("send").click();
}

test("an order passes its listeners, and the server asks back before a large one", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  const bob = await Person.visit(browser, example.url, "Bob", { ...PHONE, colorScheme: "dark" });
  await ann.shows("news-line", "Bob came in");
  await order(ann, 2);
  await ann.shows("outcome", "5 listeners ran, 1 failed.");
  await bob.shows("news-line", "Ann ordered 2 × Mate");

  await order(bob, 9);
  await bob.shows("question-text", "9 cups of Mate: really?");
  await fits(bob, "the question");
  await bob.shot("events-question");
  await bob.at("no").click();
  await bob.shows("outcome", "one stopped the others");
  await order(bob, 9);
  await bob.at("yes").click();
  await bob.shows("outcome", "5 listeners ran, 1 failed.");
  await ann.shows("news-line", "Bob ordered 9 × Mate");
  await order(ann, 44);
  await ann.shows("outcome", "1 listeners ran, 0 failed, and one stopped the others.");
  await order(ann, 3);
  await ann.shows("news-line", "Ann ordered 3 × Mate");
  await ann.shows("outcome", "5 listeners ran");
  await ann.shot("events");
  await fits(bob, "the events");
  await bob.shot("events-phone", { fullPage: true });
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});
