// All pages of the program and of the examples, on desktop and phone, in light and dark mode: axe-core finds
// nothing, nothing overflows the edge, and the relevant code is shown.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { violations } from "./accessible.mjs";
import { PAGES, openPage } from "./pages.mjs";
import { PHONE, Person, fits, startBrowser, startExample, startServer } from "./support.mjs";

let browser;

before(async () => {
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
});

for (const page of PAGES) {
  test(`${page.name}: no violations, nothing beyond the edge`, { timeout: 90_000 }, async () => {
    const faults = [];
    for (const [device, options] of [["desk", { viewport: { width: 1180, height: 800 } }], ["phone", PHONE]]) {
      const program = await (page.example ? startExample(page.example) : startServer());
      const person = await openPage(browser, program.url, page, { ...options, reducedMotion: "reduce" });
      for (const colorScheme of ["light", "dark"]) {
        await person.page.emulateMedia({ colorScheme });
        if (device === "phone") await fits(person, page.name);
        faults.push(...(await violations(person, `${device}, ${colorScheme}`)));
        await person.shot(`page-${page.name}-${device}-${colorScheme}`, { fullPage: true });
      }
      await showsCode(person, page);
      assert.deepEqual(person.faults, []);
      await person.page.context().close();
      await program.stop();
    }
    assert.deepEqual(faults, []);
  });
}

/** Checks that each figure shows code of its file. */
async function showsCode(person, page) {
  const texts = await person.at("code").locator("pre").allTextContents();
  assert.equal(texts.length, page.hasCode ? 1 : 0, `figures of code in ${page.name}`);
  for (const text of texts) assert.ok(text.split("\n").length > 5, text);
}

test("the button that cuts keeps the focus, and brings it back", { timeout: 60_000 }, async () => {
  const program = await startExample("axum");
  const ann = await Person.visit(browser, program.url, "Ann");
  await ann.at("cut").focus();
  await ann.page.keyboard.press("Enter");
  await ann.is("waiting");
  assert.equal(await focused(ann), "retry");
  await ann.page.keyboard.press("Enter");
  await ann.is("connected");
  assert.equal(await focused(ann), "cut");
  await ann.page.context().close();
  await program.stop();
});

function focused(person) {
  return person.page.evaluate(() => document.activeElement.dataset.testid);
}
