// The states example: idle after silence, busy on request, disconnected and back by the retry policy; another
// page sees all changes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("states");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

test("a connection becomes idle and busy, is sent away, and comes back by its policy", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  await ann.shows("policy", "Endless attempts, each ×2 as late");
  await ann.shows("mine", "idle");
  await ann.shows("policy", "3 attempts, each ×3 as late");
  await ann.at("here").click();
  await ann.shows("mine", "connected");

  const bob = await Person.visit(browser, example.url, "Bob", { ...PHONE, colorScheme: "dark" });
  await ann.at("busy").click();
  await ann.shows("mine", "busy");
  await ann.shows("policy", "10 attempts");
  await bob.shows("change", "Ann: connected → busy");
  await bob.shows("count-busy", "1");
  await ann.at("reconnecting").click();
  await ann.at("fault").filter({ hasText: /busy/ }).waitFor();
  const counts = await (await fetch(`${example.url}/states`)).json();
  assert.equal(counts.busy, 1);

  await ann.at("door").click();
  await ann.shows("policy", /Attempt [2-9] of 10 is next/);
  await ann.shot("states-away");
  await bob.shows("change", "Ann: busy → disconnected");
  await fits(bob, "the states");
  await bob.shot("states-phone", { fullPage: true });
  await ann.is("connected");
  await ann.shows("mine", "busy"); // the session goes on, in its state
  await bob.shows("change", "Ann: reconnecting → connected");
  await ann.shot("states");
  const refused = (fault) => !fault.includes("403"); // what the browser says of a closed door
  assert.deepEqual([...ann.faults, ...bob.faults].filter(refused), []);
});
