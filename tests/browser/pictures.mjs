// Makes the pictures for the index of the examples from their pages: HAUYNA_BIN=… HAUYNA_EXAMPLES=… node
// pictures.mjs. They are committed; run it again when the style changes.

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { serve } from "./bindings.mjs";
import { PAGES, openPage } from "./pages.mjs";
import { Person, startBrowser, startExample, startServer } from "./support.mjs";

const FOLDER = fileURLToPath(new URL("../../examples/pictures/", import.meta.url));
const SIZE = { width: 1280, height: 800 };
const LOOK = { viewport: SIZE, colorScheme: "light", reducedMotion: "reduce" };
const SCALE = 560 / SIZE.width;
const QUALITY = 70;

mkdirSync(FOLDER, { recursive: true });
const browser = await startBrowser();
for (const page of PAGES.filter(({ name, file }) => !file && !name.endsWith("-door"))) {
  const program = await (page.example ? startExample(page.example) : startServer());
  const { page: tab } = await openPage(browser, program.url, page, LOOK);
  await take(page.name, tab);
  await program.stop();
}
for (const example of ["react", "vue", "svelte"]) {
  const program = await startServer();
  const pages = await serve(example, program.url);
  const [ann, bob] = [await Person.visit(browser, pages.url, "Ann", LOOK), await Person.visit(browser, pages.url, "Bob")];
  await ann.say("Good morning.");
  await bob.sees("Good morning.");
  await bob.say("Good morning, Ann.", "Tea?");
  await ann.sees("Tea?");
  await take(example, ann.page);
  await bob.page.context().close();
  await pages.stop();
  await program.stop();
}
await browser.close();

async function take(name, tab) {
  const devtools = await tab.context().newCDPSession(tab);
  const clip = { x: 0, y: 0, ...SIZE, scale: SCALE };
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: QUALITY, clip });
  const picture = Buffer.from(data, "base64");
  writeFileSync(`${FOLDER}${name}.webp`, picture);
  console.log(`${name}.webp ${picture.length} bytes`);
  await tab.context().close();
}
