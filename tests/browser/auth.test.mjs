// The auth example: a login, the data of the token, a renewal on the same connection, and the expiry.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("auth");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

async function login(name, password, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 760 }, ...options });
  const person = new Person(await context.newPage(), name);
  await person.page.goto(example.url);
  await person.at("name").fill(name);
  await person.at("password").fill(password);
  await person.at("login").click();
  return person;
}

test("a token opens what it says, is renewed in place, and its end closes the connection", { timeout: 60_000 }, async () => {
  const bob = await login("bob", "apple", { ...PHONE, colorScheme: "dark" });
  await bob.shows("fault", "That is not the password.");
  await bob.at("password").fill("banana");
  await bob.at("login").click();
  await bob.is("connected");
  await bob.at("auto").click();
  await bob.at("staff").click();
  await bob.shows("note", "permission_denied");

  const ann = await login("ann", "apple");
  await ann.is("connected");
  await ann.at("staff").click();
  await ann.shows("note", "You are in the staff room.");
  await ann.at("who").click();
  await ann.shows("note", "You are ann, staff, with Mozilla");
  await ann.at("renew").click();
  await ann.shows("note", "The token is renewed, the connection is the same.");
  assert.equal(await ann.at("note").filter({ hasText: "Connected as ann." }).count(), 1);
  await ann.shot("auth");
  await fits(bob, "the login");
  await bob.shot("auth-phone", { fullPage: true });

  await bob.page.locator("[data-testid=state][data-state=closed]").waitFor({ timeout: 30_000 });
  await bob.shows("note", "Log in again.");
  await ann.is("connected");
  const refused = (fault) => !fault.includes("401"); // what the browser says of a wrong password
  assert.deepEqual([...ann.faults, ...bob.faults].filter(refused), []);
});
