// The rooms example: two users join and talk, and one is cut off meanwhile.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("rooms");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

test("two people meet in a room, and who is cut off misses nothing", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  await ann.at("room-garden").click();
  await ann.shows("person", "Ann");
  await ann.say("Nobody here?");
  await ann.shows("message", "Nobody here?");

  const bob = await Person.visit(browser, example.url, "Bob");
  await bob.at("room-input").fill("Garden");
  await bob.at("join").click();
  await bob.shows("message", "Nobody here?");
  await ann.shows("person", "Bob");
  await bob.say("<i>I am</i>");
  await ann.shows("message", "<i>I am</i>");

  await bob.at("cut").click();
  await bob.is("waiting");
  await ann.say("one", "two");
  await ann.shows("message", "two");
  await bob.at("retry").click();
  await bob.is("connected");
  await bob.shows("message", "two");
  const heard = await bob.page.$$eval("[data-testid=message] p", (texts) => texts.map((text) => text.textContent));
  assert.deepEqual(heard, ["Nobody here?", "<i>I am</i>", "one", "two"]);
  await bob.shows("log", "You are back, and missed nothing.");

  await bob.at("room-library").click();
  await ann.say("three");
  await bob.shows("room-garden", "1");
  await bob.at("room-garden").click();
  await bob.at("leave-room").click();
  await ann.shows("log", "Bob left");
  await ann.at("person").filter({ hasText: "Bob" }).waitFor({ state: "detached" });
  await ann.shot("rooms");
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});

test("the rooms fit a phone", { timeout: 60_000 }, async () => {
  const eve = await Person.visit(browser, example.url, "Eve", { ...PHONE, colorScheme: "dark" });
  await eve.at("room-kitchen").click();
  await eve.say("A word as long as a tape worm: " + "donaudampfschifffahrtsgesellschaft".repeat(3));
  await eve.shows("message", "donau");
  await fits(eve, "the rooms");
  await eve.shot("rooms-phone", { fullPage: true });
  assert.deepEqual(eve.faults, []);
});
