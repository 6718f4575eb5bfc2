// Bundles for pages, by each bundler with its defaults. A bundle has nothing of Node in it, and runs where
// there is nothing but what a page has: in a context with a location, timers and URL, and in Chromium where
// there is one.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import vm from "node:vm";
import { openPage } from "./support/chromium.mjs";
import { EXPECTED, bin, prepare, run } from "./support/environment.mjs";

const folder = prepare("bundlers");
const output = join(folder, "build");
const load = (name) => import(join(folder, "node_modules", name));
let page;

before(async () => {
  rmSync(output, { recursive: true, force: true });
  rmSync(join(folder, ".parcel-cache"), { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  page = await openPage();
});
after(() => page?.close());

const BUNDLERS = {
  async esbuild(outdir) {
    const { build } = await load("esbuild/lib/main.js");
    await build({ entryPoints: [join(folder, "entry.js")], bundle: true, minify: true, outdir, logLevel: "silent" });
  },
  async webpack(outdir) {
    const { default: webpack } = await load("webpack/lib/index.js");
    const options = { mode: "production", context: folder, entry: "./entry.js", output: { path: outdir } };
    const stats = await new Promise((resolve, reject) => webpack(options, (error, stats) => (error ? reject(error) : resolve(stats))));
    assert.equal(stats.hasErrors(), false, stats.toString());
  },
  async Vite(outdir) {
    const { build } = await load("vite/dist/node/index.js");
    await build({ root: folder, logLevel: "error", build: { outDir: outdir, emptyOutDir: true, modulePreload: { polyfill: false } } });
  },
  async Parcel(outdir) {
    const words = ["build", "index.html", "--dist-dir", outdir, "--no-source-maps", "--no-cache", "--log-level", "error"];
    await run(folder, bin(folder, "parcel"), words);
  },
};

for (const [name, bundle] of Object.entries(BUNDLERS)) {
  test(name, async (t) => {
    const outdir = join(output, name);
    await bundle(outdir);
    const files = readdirSync(outdir, { recursive: true }).filter((file) => file.endsWith(".js"));
    assert.equal(files.length, 1, `one script, but ${files}`);
    const script = readFileSync(join(outdir, files[0]), "utf8");
    assert.match(script, /hauyna\.v1\.json/);
    assert.doesNotMatch(script, /node:|sec-websocket-accept|createHash|require\(/i);
    assert.equal(await inContext(script), EXPECTED);
    await t.test("in Chromium", { skip: page.reason }, async () => assert.equal(await page.evaluate(script), EXPECTED));
  });
}

/** Runs a script where there is only what every page has. */
function inContext(script) {
  const location = { href: "https://shop.example/cart" };
  const context = vm.createContext({ setTimeout, clearTimeout, URL, console, location });
  new vm.Script(script).runInContext(context);
  return context.hauynaResult;
}
