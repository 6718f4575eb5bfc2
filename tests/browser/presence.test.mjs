// The presence example: devices, statuses, typing, the grace time, and who was last seen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("presence");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

const status = (person, of, wanted) => person.page.locator(`[data-testid=person-${of}][data-status=${wanted}]`).waitFor();

test("a board shows devices, statuses, typing, and nothing of a short loss", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  await ann.shows("person-Ann", "desk");
  const phone = await Person.visit(browser, example.url, "Ann", { ...PHONE, colorScheme: "dark" });
  await ann.shows("person-Ann", "phone");
  const bob = await Person.visit(browser, example.url, "Bob");
  await bob.shows("person-Ann", "deskphone");
  await ann.shows("count", "2 people");

  await bob.at("away").click();
  await status(ann, "Bob", "away");
  await bob.at("activity").fill("Having <b>lunch</b>");
  await bob.at("say").click();
  await ann.shows("person-Bob", "Having <b>lunch</b>");
  const away = await (await fetch(`${example.url}/present?status=away`)).json();
  assert.deepEqual(away.map((entry) => entry.user), ["Bob"]);
  await bob.at("draft").pressSequentially("hm");
  await ann.shows("person-Bob", "is typing…");

  await ann.page.evaluate(() => {
    globalThis.statuses = new Set();
    const look = () => globalThis.statuses.add(document.querySelector("[data-testid=person-Bob]")?.dataset.status);
    new MutationObserver(look).observe(document.getElementById("people"), { childList: true });
  });
  await bob.at("cut").click();
  await bob.is("waiting");
  await bob.at("retry").click();
  await bob.is("connected");
  await bob.at("busy").click();
  await status(ann, "Bob", "busy");
  const statuses = await ann.page.evaluate(() => [...globalThis.statuses].filter((status) => status !== "away"));
  assert.deepEqual(statuses, ["busy"], "he was never gone");

  const cleo = await Person.visit(browser, example.url, "Cleo");
  await status(ann, "Cleo", "online");
  await cleo.page.close();
  await status(ann, "Cleo", "offline");
  await ann.shows("person-Cleo", "last seen");
  await fits(phone, "the board");
  await phone.shot("presence-phone", { fullPage: true });
  await phone.page.close();
  await ann.shot("presence");
  assert.deepEqual([...ann.faults, ...bob.faults, ...cleo.faults], []);
});
