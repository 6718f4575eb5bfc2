// Records the moving picture of the README from the program's first page, `cargo xtask record-demo`:
// HAUYNA_BIN=… node record-demo.mjs
// Two people talk, the socket of one is cut, the other one writes on, and what was missed arrives. Needs ffmpeg.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Person, startBrowser, startServer } from "./support.mjs";

const FILE = fileURLToPath(new URL("../../docs/pictures/demo.gif", import.meta.url));
const VIEWPORT = { width: 880, height: 900 };
const MARGIN = 16; // px around the two conversations
const FRAMES = 10; // per second
const COLOURS = 64;
const LARGEST = 1_000_000; // bytes

const server = await startServer();
const browser = await startBrowser();
const context = await browser.newContext({ viewport: VIEWPORT, colorScheme: "light" });
const visitor = new Person(await context.newPage(), "visitor");
const { page } = visitor;
await page.goto(server.url);
for (const id of ["ann", "ben"]) await messages(id).nth(1).waitFor();
await page.locator("#ann").scrollIntoViewIfNeeded();
const area = await areaOfConversations();

const frames = await record(async () => {
  await pause(1000);
  await write("ben", "My train goes into a tunnel.");
  await messages("ann").nth(2).waitFor();
  await pause(1200);
  await visitor.at("ben-cut").click();
  await messages("ann").nth(4).waitFor(); // the other one writes by itself
  await write("ben", "I write in here, too.");
  await messages("ann").nth(7).waitFor();
  await pause(800);
  await visitor.at("ben-retry").click();
  await messages("ben").nth(8).waitFor();
  await messages("ann").nth(8).waitFor();
  await pause(3500);
});

for (const figure of ["lost", "doubled"]) {
  if ((await visitor.at(`ben-${figure}`).textContent()) !== "0") throw new Error(`ben has messages that are ${figure}`);
}
if (visitor.faults.length > 0) throw new Error(visitor.faults.join("\n"));
await browser.close();
await server.stop();
encode(frames);
const { size } = statSync(FILE);
console.log(`${FILE} ${size} bytes, ${frames.length} frames`);
if (size > LARGEST) throw new Error(`more than ${LARGEST} bytes`);

function messages(id) {
  return page.locator(`[data-testid=${id}] [data-testid=message][data-state=sent]`);
}

async function write(id, text) {
  await visitor.at(`${id}-input`).pressSequentially(text, { delay: 40 });
  await visitor.at(`${id}-send`).click();
}

/** What the reader of the picture needs to look. */
function pause(duration) {
  return page.waitForTimeout(duration);
}

/** Where the two are on the page. The numbers are even, as video filters want them. */
async function areaOfConversations() {
  const boxes = await Promise.all(["ann", "ben"].map((id) => page.locator(`#${id}`).boundingBox()));
  const even = (number) => Math.round(number / 2) * 2;
  const [left, top] = ["x", "y"].map((side) => even(Math.min(...boxes.map((box) => box[side])) - MARGIN));
  const right = Math.max(...boxes.map((box) => box.x + box.width)) + MARGIN;
  const bottom = Math.max(...boxes.map((box) => box.y + box.height)) + MARGIN;
  return { left, top, width: even(right - left), height: even(bottom - top) };
}

/** The frames that Chromium paints while `act` runs, each with its time in seconds. */
async function record(act) {
  const devtools = await context.newCDPSession(page);
  const frames = [];
  devtools.on("Page.screencastFrame", ({ data, metadata, sessionId }) => {
    frames.push({ picture: Buffer.from(data, "base64"), time: metadata.timestamp });
    devtools.send("Page.screencastFrameAck", { sessionId }).catch(() => {});
  });
  await devtools.send("Page.startScreencast", { format: "png" });
  const start = Date.now();
  await act();
  const duration = (Date.now() - start) / 1000;
  await devtools.send("Page.stopScreencast");
  const end = frames[0].time + duration;
  return frames.map((frame, n) => ({ ...frame, duration: Math.max(0.001, (frames[n + 1]?.time ?? end) - frame.time) }));
}

/** Writes the file: one palette for all frames, and of each frame only what has changed. */
function encode(frames) {
  const folder = mkdtempSync(join(tmpdir(), "hauyna-demo-"));
  try {
    const list = frames.map(({ picture, duration }, n) => {
      writeFileSync(join(folder, `${n}.png`), picture);
      return `file ${n}.png\nduration ${duration.toFixed(3)}\n`;
    });
    // The last picture is named twice, or ffmpeg does not keep its duration.
    writeFileSync(join(folder, "list.txt"), `${list.join("")}file ${frames.length - 1}.png\n`);
    const { left, top, width, height } = area;
    const shape = `fps=${FRAMES},crop=${width}:${height}:${left}:${top},split[one][other]`;
    const palette = `[one]palettegen=max_colors=${COLOURS}:stats_mode=full[palette]`;
    const paint = "[other][palette]paletteuse=dither=none:diff_mode=rectangle";
    mkdirSync(fileURLToPath(new URL("../../docs/pictures/", import.meta.url)), { recursive: true });
    const input = ["-f", "concat", "-i", join(folder, "list.txt")];
    execFileSync("ffmpeg", ["-v", "error", "-y", ...input, "-filter_complex", `${shape};${palette};${paint}`, "-loop", "0", FILE], { stdio: "inherit" });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
