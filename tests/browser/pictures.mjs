// Makes the pictures of the index of examples from their pages: HAUYNA_BIN=… HAUYNA_EXAMPLES=… node pictures.mjs
// They are committed; make them anew when the look changes.

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PAGES, openPage } from "./pages.mjs";
import { startBrowser, startExample, startServer } from "./support.mjs";

const FOLDER = fileURLToPath(new URL("../../examples/pictures/", import.meta.url));
const SIZE = { width: 1120, height: 700 };
const SCALE = 0.5;
const QUALITY = 70;

mkdirSync(FOLDER, { recursive: true });
const browser = await startBrowser();
for (const page of PAGES.filter(({ name, file }) => !file && !name.endsWith("-door"))) {
  const program = await (page.example ? startExample(page.example) : startServer());
  const options = { viewport: SIZE, colorScheme: "light", reducedMotion: "reduce" };
  const { page: tab } = await openPage(browser, program.url, page, options);
  const devtools = await tab.context().newCDPSession(tab);
  const clip = { x: 0, y: 0, ...SIZE, scale: SCALE };
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: QUALITY, clip });
  const picture = Buffer.from(data, "base64");
  writeFileSync(`${FOLDER}${page.name}.webp`, picture);
  console.log(`${page.name}.webp ${picture.length} bytes`);
  await tab.context().close();
  await program.stop();
}
await browser.close();
