// The groups example: an administrator and a member, a promotion, and a membership that outlives its
// connection.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("groups");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

async function announce(person, text) {
  await person.at("text").fill(text);
  await person.at("send").click();
}

test("members may not announce until they are promoted, and stay members while they are away", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  await ann.at("join").click();
  await ann.shows("mine", "You are an administrator.");
  const bob = await Person.visit(browser, example.url, "Bob");
  await bob.at("join").click();
  await bob.shows("mine", "You are a member.");

  await announce(ann, "Lunch is at <b>one</b>");
  await bob.shows("announcement", "Lunch is at <b>one</b>");
  await announce(bob, "At two!");
  await bob.at("fault").filter({ hasText: /./ }).waitFor();
  assert.equal(await ann.at("announcement").count(), 1, "nobody heard the member");

  await ann.page.getByRole("button", { name: "Promote Bob" }).click();
  await bob.shows("mine", "You are an administrator.");
  await bob.at("send").click();
  await ann.shows("announcement", "At two!");

  await bob.at("cut").click();
  await ann.shows("member-Bob", "away");
  await bob.at("retry").click();
  await bob.shows("mine", "You are an administrator.");
  await announce(ann, "You are back, I see");
  await bob.shows("announcement", "You are back");
  const cleo = await Person.visit(browser, example.url, "Cleo");
  await cleo.at("join").click();
  await ann.shows("member-Cleo", "member");
  await ann.shot("groups");

  const eve = await Person.visit(browser, example.url, "Eve", { ...PHONE, colorScheme: "dark" });
  await eve.at("join").click();
  await ann.page.getByRole("button", { name: "Promote Eve" }).click();
  await eve.shows("mine", "administrator");
  await announce(ann, "donaudampfschifffahrtsgesellschaft".repeat(3));
  await eve.shows("announcement", "donau");
  await fits(eve, "the team");
  await eve.shot("groups-phone", { fullPage: true });
  await ann.page.getByRole("button", { name: "Remove Bob" }).click();
  await bob.shows("join", "Join the team");
  assert.deepEqual([...ann.faults, ...bob.faults, ...cleo.faults, ...eve.faults], []);
});
