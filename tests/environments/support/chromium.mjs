// A page of Chromium for scripts that bundlers made: through the driver of tests/browser, where both are
// installed.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

const require = createRequire(new URL("../../browser/package.json", import.meta.url));
const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** Opens Chromium. Where that cannot be, `reason` says why, and nothing else may be used. */
export async function openPage() {
  const places = (process.env["PATH"] ?? "").split(delimiter);
  const program = process.env["CHROMIUM"] ?? places.flatMap((place) => NAMES.map((name) => join(place, name))).find(existsSync);
  if (!program) return { reason: "no Chromium on the PATH", close() {} };
  let playwright;
  try {
    playwright = require("playwright-core");
  } catch {
    return { reason: "needs npm ci in tests/browser", close() {} };
  }
  const browser = await playwright.chromium.launch({ executablePath: program, args: ["--no-sandbox"] });
  return {
    /** Runs a bundle in a new page and returns what the scenario says. */
    async evaluate(script) {
      const page = await browser.newPage();
      await page.route("**", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html><title>page</title>" }));
      await page.goto("https://shop.example/cart");
      await page.addScriptTag({ content: script });
      const result = await page.evaluate(() => globalThis.hauynaResult);
      await page.close();
      return result;
    },
    /** Loads a page and returns what a function of it gives, once its scripts have run. */
    async visit(address, get) {
      const page = await browser.newPage();
      await page.goto(address, { waitUntil: "load" });
      await page.waitForFunction("globalThis.chatResult !== undefined");
      const result = await page.evaluate(get);
      await page.close();
      return result;
    },
    /** Loads a page, waits until it shows a text, and returns what the console says of hydration. */
    async hydrate(address, text) {
      const page = await browser.newPage();
      const said = [];
      page.on("console", (line) => said.push(line.text()));
      page.on("pageerror", (error) => said.push(`hydration: ${error.message}`));
      await page.goto(address);
      await page.getByText(text).waitFor();
      await page.close();
      return said.filter((line) => /hydrat/i.test(line));
    },
    close: () => browser.close(),
  };
}
