// The reconnect example: whichever side cuts the socket, no number is lost and none arrives twice.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("reconnect");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

const figure = async (person, id) => Number((await person.at(id).textContent()).replaceAll(",", ""));

test("numbers published while the socket was cut are recovered, none lost, none doubled", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  await ann.at("received").filter({ hasText: /[1-9]/ }).waitFor();

  await ann.at("cut").click();
  await ann.is("waiting");
  await ann.shows("log", /numbers? recovered/);
  await ann.is("connected");
  const recovered = await figure(ann, "recovered");
  assert.ok(recovered >= 15, `${recovered} were recovered of the twenty of four seconds`);

  await ann.at("server").click();
  await ann.at("log").locator("li", { hasText: "recovered" }).nth(1).waitFor();
  await ann.shot("reconnect");
  await ann.page.reload();
  await ann.shows("log", "The page was reloaded");
  const received = await figure(ann, "received");
  await ann.at("received").filter({ hasNotText: String(received) }).waitFor();
  assert.ok((await figure(ann, "recovered")) >= recovered, "the figures outlive the page");
  assert.deepEqual([await figure(ann, "lost"), await figure(ann, "doubled")], [0, 0]);
  assert.deepEqual(ann.faults, []);
});

test("the figures fit a phone", { timeout: 60_000 }, async () => {
  const eve = await Person.visit(browser, example.url, "Eve", { ...PHONE, colorScheme: "dark" });
  await eve.at("server").click();
  await eve.shows("log", "recovered");
  await fits(eve, "the figures");
  await eve.shot("reconnect-phone", { fullPage: true });
  assert.deepEqual(eve.faults, []);
});
