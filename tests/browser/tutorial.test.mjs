// What docs/tutorial.md says that its reader sees, with the program and the page that stand at its end.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { Person, startBrowser } from "./support.mjs";

let browser;
let program;
let url;

before(async () => {
  const folder = process.env.HAUYNA_TUTORIAL;
  if (!folder) throw new Error("HAUYNA_TUTORIAL must name the folder with the page of the tutorial");
  const address = `127.0.0.1:${await freePort()}`;
  url = `http://${address}/`;
  program = spawn(`${process.env.HAUYNA_EXAMPLES}/hauyna-tutorial`, [address], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  process.once("exit", () => program.kill());
  while (!(await fetch(url).catch(() => {}))) {
    assert.equal(program.exitCode, null, "the program of the tutorial runs");
    await new Promise((passed) => setTimeout(passed, 50));
  }
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  const ended = once(program, "exit");
  program.kill();
  await ended;
});

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Opens the page and answers its two questions. */
async function enter(name, password) {
  const context = await browser.newContext();
  const person = new Person(await context.newPage(), name);
  const answers = [name, password];
  person.page.on("dialog", (dialog) => dialog.accept(answers.shift()));
  await person.page.goto(url);
  return person;
}

/** The element comes to show this text, and nothing else. */
async function shows({ page }, id, text) {
  await page.waitForFunction(([id, text]) => document.getElementById(id).innerText === text, [id, text]);
}

async function write({ page }, text) {
  await page.fill("#text", text);
  await page.click("#form button");
}

test("the chat of the tutorial does what the tutorial says", { timeout: 60_000 }, async () => {
  const ann = await enter("ann", "apple");
  await shows(ann, "state", "connected");
  await write(ann, "hello");
  await shows(ann, "log", "ann: hello");
  const bob = await enter("bob", "banana");
  await shows(bob, "log", "ann: hello"); // from the history
  await shows(ann, "here", "ann, bob");

  await bob.page.click("#cut");
  await shows(bob, "state", "reconnecting");
  for (const text of ["one", "two"]) await write(ann, text);
  await shows(ann, "log", "ann: hello\nann: one\nann: two");
  await shows(ann, "here", "ann, bob");
  assert.equal(await bob.page.innerText("#log"), "ann: hello");
  await bob.page.click("#cut");
  await shows(bob, "log", "ann: hello\nann: one\nann: two");

  await write(ann, "/pin Be kind");
  await shows(bob, "pinned", "Be kind");
  await write(bob, "/pin Be loud");
  await shows(bob, "notice", "only moderators pin lines");
  await write(ann, "/promote bob");
  await shows(bob, "notice", "bob is a moderator now");
  await write(bob, "/pin Be loud");
  await shows(ann, "pinned", "Be loud");
  const later = await enter("bob", "banana");
  await shows(later, "pinned", "Be loud"); // from the history
  assert.deepEqual([...ann.faults, ...bob.faults, ...later.faults], []);
});

test("a wrong password of the tutorial's chat leads to closed", { timeout: 60_000 }, async () => {
  const eve = await enter("eve", "cherry");
  await shows(eve, "state", "closed");
});
