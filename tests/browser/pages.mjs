// All pages, and how to fill each with content.

import { Person } from "./support.mjs";

/** The index of the examples, which is opened as a file. */
const INDEX = new URL("../../examples/index.html", import.meta.url).href;

/** All pages. `fill` does what visitors do, so that the page shows content. */
export const PAGES = [
  { name: "index", file: INDEX, fill: (ann) => ann.page.evaluate(loadPictures) },
  { name: "demo", path: "/", hasCode: true, fill: showRecovery },
  { name: "chat-door", path: "/chat.html" },
  { name: "chat", path: "/chat.html", fill: talk },
  { name: "notifications", example: "notifications", fill: notify },
  { name: "rooms", example: "rooms", fill: enterRoom },
  { name: "rooms-door", example: "rooms", path: "/" },
  { name: "reconnect", example: "reconnect", fill: recover },
  { name: "presence", example: "presence", fill: beBusy },
  { name: "groups", example: "groups", fill: announce },
  { name: "states", example: "states", fill: (ann) => ann.shows("change", "idle") },
  { name: "auth", example: "auth", path: "/", fill: logIn },
  { name: "events", example: "events", fill: order },
  { name: "dashboard", example: "dashboard", fill: makeNoise },
  { name: "typed", example: "typed", fill: addCards },
  { name: "axum", example: "axum", fill: orderTea },
].map((page) => (page.example ? { path: "/?name=Ann", hasCode: true, ...page } : page));

/** Opens a page and calls its `fill`. */
export async function openPage(browser, url, page, options = {}) {
  const context = await browser.newContext(options);
  const person = new Person(await context.newPage(), "Ann");
  await person.page.goto(page.file ?? url + page.path);
  if (page.hasCode) await person.at("code").locator("pre").waitFor({ state: "attached" });
  await page.fill?.(person);
  return person;
}

/** Runs in the page: whether all pictures are loaded. */
async function loadPictures() {
  for (const picture of document.images) {
    picture.loading = "eager";
    await picture.decode();
  }
}

async function showRecovery(ann) {
  await ann.page.locator("[data-testid=ben] [data-state=sent]").nth(1).waitFor();
  await ann.at("ben-cut").click();
  await ann.page.locator("[data-testid=ann] [data-state=sent]").nth(5).waitFor();
  await ann.at("ben-retry").click();
  await ann.page.locator("[data-testid=ben] [data-replayed]").nth(3).waitFor();
  await ann.at("ann-cut").click();
  await ann.at("ann-input").fill("And this waits until I am back: https://example.com");
  await ann.at("ann-send").click();
}

async function talk(ann) {
  await ann.at("name-input").fill("Ann with a name that has no end");
  await ann.at("enter").click();
  await ann.is("connected");
  await ann.say("Good morning. See https://example.com/minutes.", "صباح الخير");
  await ann.sees("صباح الخير");
  const bob = await Person.enter(ann.page.context().browser(), new URL(ann.page.url()).origin, "Bob");
  await bob.say("Good morning.");
  await ann.sees("Good morning.");
  await ann.at("cut").click();
  await ann.is("waiting");
  await bob.say("Where have you gone?");
  await ann.at("retry").click();
  await ann.sees("Where have you gone?");
  await bob.page.context().close();
}

async function notify(ann) {
  for (const text of ["Your order has left", "Bob has answered you"]) {
    await ann.at("text").fill(text);
    await ann.at("send").click();
    await ann.shows("notification", text);
  }
}

async function enterRoom(ann) {
  await ann.page.locator("[data-testid=rooms] button").first().click();
  await ann.at("message-input").fill("Is anybody in the garden?");
  await ann.at("send").click();
  await ann.shows("log", "Is anybody in the garden?");
}

async function recover(ann) {
  await ann.is("connected");
  await ann.shows("last", /\d/);
  await ann.at("cut").click();
  await ann.is("waiting");
  await ann.at("retry").click();
  await ann.shows("log", "recovered");
}

async function beBusy(ann) {
  await ann.is("connected");
  await ann.at("busy").click();
  await ann.at("activity").fill("Reading the minutes");
  await ann.at("say").click();
  await ann.shows("person-Ann", "Reading the minutes");
}

async function announce(ann) {
  await ann.is("connected");
  await ann.at("join").click();
  await ann.shows("mine", "administrator");
  await ann.at("text").fill("We meet at ten.");
  await ann.at("send").click();
  await ann.shows("announcement", "We meet at ten.");
}

async function logIn(ann) {
  await ann.at("name").fill("ann");
  await ann.at("password").fill("apple");
  await ann.at("login").click();
  await ann.is("connected");
  await ann.at("who").click();
  await ann.shows("note", "You are ann");
}

async function order(ann) {
  await ann.is("connected");
  await ann.at("send").click();
  await ann.shows("outcome", "listeners ran");
  await ann.shows("news-line", "ordered");
}

async function makeNoise(ann) {
  await ann.is("connected");
  await ann.at("noise").click();
  await ann.shows("figure-connections", "1");
  await ann.shows("most", /[1-9]\d/);
}

async function addCards(ann) {
  await ann.is("connected");
  for (const [title, colour] of [["Write the minutes", "blue"], ["Water the garden", "green"], ["Order tea", "amber"]]) {
    await ann.at("title").fill(title);
    await ann.at("colour").selectOption(colour);
    await ann.at("put").click();
    await ann.shows("card", title);
  }
}

async function orderTea(ann) {
  await ann.is("connected");
  for (const item of ["Tea", "Mate"]) {
    await ann.at("item").fill(item);
    await ann.at("send").click();
    await ann.shows("line", item);
  }
}
