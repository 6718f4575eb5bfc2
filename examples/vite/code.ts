// The code that matters, as it runs: the pages import their own files as text, so that what is shown cannot differ.

/** A part of the text, and what it is for the eye. */
export interface Token {
  readonly kind: "comment" | "string" | "keyword" | "rest";
  readonly text: string;
}

/** The lines of a file from the one that begins so, up to the one that begins with `to`, or to the end. */
export function excerpt(source: string, from: string, to?: string): string {
  const lines = source.trimEnd().split("\n");
  const first = lines.findIndex((line) => line.trimStart().startsWith(from));
  const end = to === undefined ? lines.length : lines.findIndex((line, n) => n > first && line.startsWith(to));
  if (first < 0 || end < 0) throw new Error(`no line begins with ${first < 0 ? from : to}`);
  const indent = (lines[first] as string).search(/\S/);
  return lines.slice(first, end).map((line) => line.slice(indent)).join("\n").trimEnd();
}

const WORDS =
  /(?<comment>\/\/[^\n]*)|(?<string>"[^"\n]*"|`[^`]*`)|(?<keyword>\b(?:async|await|const|export|function|if|import|let|new|return|void)\b)/g;

/** Cuts code into what is coloured and what is not. */
export function tokens(code: string): Token[] {
  const all: Token[] = [];
  let end = 0;
  for (const { 0: text, index, groups } of code.matchAll(WORDS)) {
    const kind = Object.entries(groups ?? {}).find(([, found]) => found !== undefined)?.[0] as Token["kind"];
    all.push({ kind: "rest", text: code.slice(end, index) }, { kind, text });
    end = index + text.length;
  }
  return [...all, { kind: "rest", text: code.slice(end) }];
}
