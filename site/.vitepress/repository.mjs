// Markdown that is written for a viewer of the repository, made ready for the site: links to pages lead to pages, links
// to all other files lead to the repository, and lines of Rust that only the doc-tests need are left out.

import { existsSync, statSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { PAGES, sitePath } from "./pages.mjs";

export const repository = "https://github.com/hauyna/hauyna";
const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A plugin for markdown-it. */
export function repositoryMarkdown(md) {
  md.core.ruler.push("repository", ({ tokens, env }) => {
    if (!env.path) return; // a title, which is plain text
    const file = (env.realPath ?? env.path).slice(ROOT.length);
    for (const token of tokens) {
      if (token.type === "fence") prepareCode(token);
      if (token.type === "html_block") token.content = prepareHtml(token.content);
      for (const child of token.children ?? []) {
        if (child.type === "link_open") child.attrSet("href", resolveLink(child.attrGet("href"), file));
        if (child.type === "html_inline") child.content = prepareHtml(child.content);
      }
    }
  });
}

/** Where a link in `file` leads in the site. */
function resolveLink(link, file) {
  if (/^[a-z]+:|^#/i.test(link)) return link;
  const [, path, anchor] = /^([^#]*)(#.*)?$/.exec(link);
  let target = posix.join(path.startsWith("/") ? "" : posix.dirname(file), decodeURI(path)).replace(/^\/|\/$/g, "");
  if (isFolder(target) && isPage(`${target}/README.md`)) target += "/README.md";
  // A link of the first page of the site is a path of the site.
  if (file === "site/index.md") return link;
  if (isPage(target)) return `/${sitePath(target)}${anchor ?? ""}`;
  return `${repository}/${isFolder(target) ? "tree" : "blob"}/main/${target}${anchor ?? ""}`;
}

function isPage(target) {
  if (!target.endsWith(".md") || !existsSync(ROOT + target)) return false;
  return PAGES.files.includes(target) || PAGES.folders.includes(target.split("/")[0]);
}

function isFolder(target) {
  return existsSync(ROOT + target) && statSync(ROOT + target).isDirectory();
}

/** `rust,no_run` is Rust, and a line that begins with `# ` belongs to the doc-test alone. */
function prepareCode(token) {
  if (!/^rust\b/.test(token.info)) return;
  token.info = "rust";
  token.content = token.content.replace(/^# .*\n|^#\n/gm, "").replace(/^\n+/, "");
}

/** The bundler finds pictures whose path begins with a dot. */
function prepareHtml(html) {
  return html.replace(/(<img[^>]* src=")(?![a-z]+:|[./])/g, "$1./");
}
