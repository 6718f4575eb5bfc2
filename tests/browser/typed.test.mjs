// The typed example: a page that was compiled against the types of its program, on the TypeScript client.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, Person, fits, startBrowser, startExample } from "./support.mjs";

let example;
let browser;

before(async () => {
  example = await startExample("typed");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await example?.stop();
});

async function add(person, title, colour) {
  await person.at("title").fill(title);
  await person.at("colour").selectOption(colour);
  await person.at("put").click();
  await person.shows("card", title);
}

const card = (person, title) => person.at("card").filter({ hasText: title });

test("cards, remarks and a question go between two people, and a cut loses nothing", { timeout: 60_000 }, async () => {
  const ann = await Person.visit(browser, example.url, "Ann");
  const bob = await Person.visit(browser, example.url, "Bob", { ...PHONE, colorScheme: "dark" });
  await add(ann, "Write the guide", "green");
  await add(ann, "Draw the figures", "amber");
  await bob.shows("card", "Draw the figures");

  await card(bob, "Write the guide").getByText("Remark").click();
  await bob.shows("about", "Write the guide");
  await bob.at("text").fill("Nearly done");
  await bob.at("say").click();
  await ann.shows("remark", "Bob: Nearly done (about “Write the guide”)");

  await card(bob, "Write the guide").getByText("Remove").click();
  await bob.shows("question-text", "“Write the guide” is Ann’s. Remove it?");
  await fits(bob, "the question");
  await bob.at("no").click();
  await bob.shows("remark", "kept “Write the guide”");
  await card(bob, "Draw the figures").getByText("Remove").click();
  await bob.at("yes").click();
  await ann.shows("remark", "Bob: removed “Draw the figures”");
  assert.equal(await ann.at("card").count(), 1);

  await bob.at("cut").click();
  await add(ann, "While Bob was away", "blue");
  await bob.is("connected");
  await bob.shows("card", "While Bob was away");
  await ann.shot("typed");
  await fits(bob, "the board");
  await bob.shot("typed-phone", { fullPage: true });
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});
