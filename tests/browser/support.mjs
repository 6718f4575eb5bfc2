// Shared helpers of the browser tests: programs on free ports, Chromium, and pages with their users.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const SHOTS = fileURLToPath(new URL("../../test-results/", import.meta.url));

/** Starts the program of HAUYNA_BIN, on any free port unless one is given; `stop` ends its process. */
export function startServer(port = 0, options = []) {
  const program = process.env.HAUYNA_BIN;
  if (!program) throw new Error("HAUYNA_BIN must name the program `hauyna`");
  return start(program, ["serve", "--log", "warn", "--listen", `127.0.0.1:${port}`, ...options]);
}

/** Starts an example from the folder of HAUYNA_EXAMPLES. */
export function startExample(name) {
  const folder = process.env.HAUYNA_EXAMPLES;
  if (!folder) throw new Error("HAUYNA_EXAMPLES must name the folder of the examples' programs");
  return start(`${folder}/hauyna-example-${name}`, ["0"]);
}

async function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((found, failed) => {
    child.once("error", failed);
    child.once("exit", (code) => failed(new Error(`${program} ended with ${code} before it listened`)));
    setTimeout(failed, 20_000, new Error(`${program} printed no address`)).unref();
    createInterface(child.stdout).on("line", (line) => found(line.match(/127\.0\.0\.1:\d+/)?.[0] ?? found));
  });
  // A test that fails before it stops the program must not keep the test file running.
  process.once("exit", () => child.kill());
  child.unref();
  child.stdout.unref();
  const stop = async () => {
    child.ref();
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const [code] = await ended;
    return code;
  };
  return { url: `http://${address}`, port: Number(address.split(":")[1]), stop };
}

export function startBrowser(args = [], ignoreDefaultArgs = []) {
  return chromium.launch({
    ignoreDefaultArgs,
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox", // the tests run as root in containers
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-quic",
      ...args,
    ],
  });
}

/** A user with a browser window. */
export class Person {
  constructor(page, name) {
    this.page = page;
    this.name = name;
    this.faults = [];
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => this.faults.push(error.message));
    page.on("console", (line) => line.type() === "error" && this.faults.push(line.text()));
  }

  /** Opens the chat of the program. */
  static async enter(browser, url, name, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, ...options });
    const person = new Person(await context.newPage(), name);
    await person.page.goto(`${url}/chat.html`);
    await person.at("name-input").fill(name);
    await person.at("enter").click();
    await person.is("connected");
    await person.at("position").filter({ hasText: "position" }).waitFor({ state: "attached" });
    return person;
  }

  /** Opens the page of an example under a name, and waits until it is connected. */
  static async visit(browser, url, name, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1120, height: 760 }, ...options });
    const person = new Person(await context.newPage(), name);
    await person.page.goto(`${url}/?name=${encodeURIComponent(name)}`);
    await person.is("connected");
    return person;
  }

  at(id) {
    return this.page.getByTestId(id);
  }

  async say(...texts) {
    for (const text of texts) {
      await this.at("message-input").fill(text);
      await this.at("send").click();
    }
  }

  /** Waits until the connection is in this state. */
  async is(state) {
    await this.page.locator(`[data-testid=state][data-state=${state}]`).waitFor();
  }

  /** Waits until the shown channel has this text, accepted by the server. */
  async sees(text) {
    const message = this.page.locator("[data-testid=message][data-state=sent]", { hasText: text });
    await message.filter({ visible: true }).first().waitFor();
  }

  /** Returns the messages of the shown channel, in order: name, text, state. */
  async transcript() {
    return this.page.$$eval("[data-testid=log]:not([hidden]) [data-testid=message]", (items) =>
      items.map((item) => `${item.dataset.user}: ${item.querySelector("[data-testid=text]").textContent}`),
    );
  }

  /** Waits until element `id` shows this text. */
  async shows(id, text) {
    await this.at(id).filter({ hasText: text }).first().waitFor();
  }

  shot(name, options = {}) {
    mkdirSync(SHOTS, { recursive: true });
    return this.page.screenshot({ path: `${SHOTS}${name}.png`, animations: "disabled", ...options });
  }
}

export const PHONE = { viewport: { width: 360, height: 720 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** Checks that nothing visible overflows the right edge, except code, which scrolls. */
export async function fits(person, what) {
  const { beyond, width } = await person.page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const reaches = (element) => !element.matches("pre *") && element.checkVisibility() && element.getBoundingClientRect().right > width + 0.5;
    return { width, beyond: [...document.querySelectorAll("body *")].filter(reaches).map((e) => e.outerHTML.slice(0, 80)) };
  });
  assert.equal(width, 360, `${what} makes the page wider`);
  assert.deepEqual(beyond, [], `${what} fits`);
}
