// The notifications example: sent over HTTP, received by one user, and still there after a reload.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("notifications");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

/** Sends the same request as curl. */
async function notify(to, text) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${example.url}/notifications`, { method: "POST", headers, body: JSON.stringify({ to, text }) });
  assert.equal(answer.status, 201);
}

test("what was sent while the page was closed is there and unread after a reload", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  const bob = await Person.visit(browser, example.url, "Bob");
  await bob.at("to").fill("Ann");
  await bob.at("text").fill("Your <b>order</b> has left");
  await bob.at("send").click();
  await bob.shows("sent", "1 connections of Ann");
  await ann.shows("notification", "Your <b>order</b> has left");
  await ann.shows("unread", "1");
  await ann.at("read").click();
  await ann.at("unread").waitFor({ state: "hidden" });

  await ann.page.goto("about:blank");
  await notify("Ann", "It is at your door");
  await notify("Ann", "It has been taken in by Mrs. Schmidt, third floor, who is in until eight");
  await ann.page.goto(`${example.url}/?name=Ann`);
  await ann.shows("unread", "2");
  const texts = await ann.page.$$eval("[data-testid=notification]", (lines) => lines.map((line) => line.firstChild.textContent));
  assert.equal(texts.length, 3);
  assert.equal(texts.at(-1), "Your <b>order</b> has left", "the oldest is the last");

  await ann.at("cut").click();
  await ann.is("waiting");
  await notify("Ann", "You were away for this one");
  await ann.at("retry").click();
  await ann.shows("unread", "3");
  await ann.shot("notifications");
  assert.equal(await bob.at("notification").count(), 0, "Bob hears nothing of it");
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});

test("the notifications fit a phone", { timeout: 60_000 }, async () => {
  const eve = await Person.visit(browser, example.url, "Eve", { ...PHONE, colorScheme: "dark" });
  await notify("Eve", "donaudampfschifffahrtsgesellschaft".repeat(3));
  await eve.shows("unread", "1");
  await fits(eve, "the notifications");
  await eve.shot("notifications-phone", { fullPage: true });
  assert.deepEqual(eve.faults, []);
});
