// What axe-core finds in a page.

import assert from "node:assert/strict";
import axe from "axe-core";

/** Each rule that the page breaks, with the elements that break it; `where` goes before it. */
export async function violations(person, where) {
  // Evaluated by the devtools, which no Content-Security-Policy keeps out.
  const found = await person.page.evaluate(`${axe.source}; axe.run(document, { preload: false })`);
  assert.ok(found.passes.length > 10, "axe-core has looked at the page");
  return found.violations.map(({ id, nodes }) => {
    const elements = nodes.map(({ html, failureSummary }) => `${html.slice(0, 120)} ${failureSummary.slice(0, 200)}`);
    return `${where}: ${id}: ${elements.join("\n  ")}`;
  });
}
