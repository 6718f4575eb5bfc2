// The violations that axe-core finds in a page.

import assert from "node:assert/strict";
import axe from "axe-core";

/** Returns each violated rule with its elements; `where` precedes it. */
export async function violations(person, where) {
  // The devtools evaluate it, which a Content-Security-Policy does not block.
  const found = await person.page.evaluate(`${axe.source}; axe.run(document, { preload: false })`);
  assert.ok(found.passes.length > 10, "axe-core has looked at the page");
  return found.violations.map(({ id, nodes }) => {
    const elements = nodes.map(({ html, failureSummary }) => `${html.slice(0, 120)} ${failureSummary.slice(0, 200)}`);
    return `${where}: ${id}: ${elements.join("\n  ")}`;
  });
}
