// Whether every link in the markdown of the repository leads somewhere: to a file that is there, and to a heading that is
// in it. Addresses elsewhere are not asked, but for those of this repository, which are looked up here.

import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join, posix, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { slugify } from "./slug.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SKIPPED = new Set(["target", "node_modules", "dist", "artifacts", ".git"]);
const OWN = /^https:\/\/github\.com\/hauyna\/hauyna\/(?:blob|tree)\/main\//;

const files = markdownIn(ROOT).map((file) => relative(ROOT, file));
let count = 0;
const faults = [];
for (const file of files) {
  for (const { line, link } of linksOf(readFileSync(ROOT + file, "utf8"))) {
    count += 1;
    const fault = faultOf(link, file);
    if (fault) faults.push(`${file}:${line}: ${link}: ${fault}`);
  }
}
for (const fault of faults) console.error(fault);
console.log(`${count} links in ${files.length} files`);
process.exitCode = faults.length === 0 && count > 0 ? 0 : 1;

function markdownIn(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (SKIPPED.has(entry.name)) return [];
    if (entry.isSymbolicLink()) return []; // a guide, packed with a crate
    if (entry.isDirectory()) return markdownIn(join(folder, entry.name));
    return entry.name.endsWith(".md") ? [join(folder, entry.name)] : [];
  });
}

/** The links and pictures of a text, but for those in code, with their lines. */
function linksOf(text) {
  const blank = (code) => code.replace(/[^\n]/g, " ");
  const prose = withoutFences(text).replace(/(`+)(?!`).*?(?<!`)\1(?!`)/gs, blank);
  const found = [...prose.matchAll(/\]\(([^()\s]+)(?:\s+"[^"]*")?\)|^\[(?!\^)[^\]]+\]:\s*(\S+)|(?:href|src)="([^"]+)"/gm)];
  return found.map((match) => ({
    line: prose.slice(0, match.index).split("\n").length,
    link: match[1] ?? match[2] ?? match[3],
  }));
}

/** The text with the lines of code blocks empty. */
function withoutFences(text) {
  let fence;
  return text
    .split("\n")
    .map((line) => {
      const [, mark] = /^\s*(```+|~~~+)/.exec(line) ?? [];
      if (fence ? mark?.startsWith(fence) : mark) {
        fence = fence ? undefined : mark;
        return "";
      }
      return fence ? "" : line;
    })
    .join("\n");
}

function faultOf(link, file) {
  const own = OWN.exec(link);
  if (!own && /^[a-z]+:/i.test(link)) return undefined;
  const [path, anchor] = decodeURI(own ? link.replace(OWN, "") : link).split("#");
  if (!own && path.startsWith("/")) return file === "site/index.md" ? undefined : "begins with a slash";
  const target = own ? path : path === "" ? file : posix.join(posix.dirname(file), path);
  if (target.startsWith("..") || !existsSync(ROOT + target)) return "no such file";
  if (!anchor) return undefined;
  const page = statSync(ROOT + target).isDirectory() ? posix.join(target, "README.md") : target;
  if (!existsSync(ROOT + page) || !page.endsWith(".md")) return /^L\d+/.test(anchor) ? undefined : "no page with headings";
  return anchorsOf(page).has(anchor) ? undefined : `no heading #${anchor}`;
}

/** The anchors of a page's headings, as GitHub and the site number them where two are the same. */
function anchorsOf(page) {
  const anchors = new Set();
  const text = readFileSync(ROOT + page, "utf8");
  for (const [, heading] of withoutFences(text).matchAll(/^#{1,6}\s+(.*?)\s*#*$/gm)) {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/[`*]/g, "");
    const anchor = slugify(plain);
    let unique = anchor;
    for (let number = 1; anchors.has(unique); number += 1) unique = `${anchor}-${number}`;
    anchors.add(unique);
  }
  for (const [, id] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
  return anchors;
}
