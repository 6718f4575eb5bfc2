// Shows code that runs, read from the file that the server gives, so that what is shown cannot differ from what runs.

import { make } from "/elements.js";

const KEYWORDS =
  "async|await|const|else|export|fn|for|function|if|impl|import|in|let|loop|match|move|mut|new|of|pub|return|select|static|struct|use|while";
const WORDS = new RegExp(
  String.raw`(?<comment>//[^\n]*)|(?<string>"(?:[^"\\\n]|\\.)*"|\`[^\`]*\`)|(?<keyword>(?<![:.])\b(?:${KEYWORDS})\b)`,
  "g",
);

/** Fills each `figure.code`: `data-file` says where from, `data-from` how the first lines of its parts begin, with
 * a `|` between them. */
export async function showCode() {
  await Promise.all([...document.querySelectorAll("figure.code[data-file]")].map(show));
}

async function show(figure) {
  const { file, from } = figure.dataset;
  const answer = await fetch(file).catch(() => null);
  const source = answer?.ok ? await answer.text() : "";
  const parts = from.split("|").map((begin) => excerpt(source.split("\n"), begin));
  const code = make("code");
  code.append(painted(parts.join("\n\n")));
  const pre = make("pre");
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code of ${file.slice(1)}`);
  pre.append(code);
  figure.append(pre);
}

/** The item whose first line begins so, to the line that ends it: the next one that is indented as little. */
function excerpt(lines, begin) {
  const first = lines.findIndex((line) => line.trimStart().startsWith(begin));
  if (first < 0) throw new Error(`no line begins with ${begin}`);
  const indent = lines[first].search(/\S/);
  const isOver = (line) => /^[)}\]]/.test(line.trimStart()) && line.search(/\S/) === indent;
  const isWhole = /[;,]$|\}$/.test(lines[first]) && !/[({[]$/.test(lines[first]);
  let last = isWhole ? first : lines.findIndex((line, n) => n > first && isOver(line));
  // A chain of calls ends with its semicolon.
  if (last < 0) last = lines.findIndex((line, n) => n > first && line.endsWith(";"));
  return lines.slice(first, last + 1).map((line) => line.slice(indent)).join("\n");
}

function painted(text) {
  const whole = document.createDocumentFragment();
  let end = 0;
  for (const { 0: found, index, groups } of text.matchAll(WORDS)) {
    const kind = Object.keys(groups).find((name) => groups[name] !== undefined);
    whole.append(text.slice(end, index), make("span", kind, found));
    end = index + found.length;
  }
  whole.append(text.slice(end));
  return whole;
}
