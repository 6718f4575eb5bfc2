// The dashboard example: two pages, some messages, and their counts.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("dashboard");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

test("the counts of the hub are on every page, and at /metrics", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  const bob = await Person.visit(browser, example.url, "Bob", { ...PHONE, colorScheme: "dark" });
  await ann.at("figure-connections").filter({ hasText: "2" }).waitFor();
  await bob.at("noise").click();
  await ann.at("most").filter({ hasText: /at most ([1-9]\d{2}|1,\d{3})/ }).waitFor();
  const metrics = await (await fetch(`${example.url}/metrics`)).text();
  assert.match(metrics, /hauyna_connections\{state="connected"\} 2/);
  await fits(bob, "the dashboard");
  await ann.shot("dashboard");
  await bob.shot("dashboard-phone", { fullPage: true });
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});
