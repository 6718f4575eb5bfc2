// Which files of the repository are pages, and where each of them is in the site.

/** Entries of the repository's root. */
export const PAGES = {
  files: ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "PROTOCOL.md", "README.es.md", "SECURITY.md"],
  folders: ["clients", "docs", "examples", "site"],
  /** What in these folders is no page, or is not to be searched for pages. */
  excluded: ["clients/typescript/{dist,node_modules,scripts,src,tests}/**", "**/node_modules/**", "site/dist/**", "site/.vitepress/**"],
};

const RULES = [
  [/^site\/index\.md$/, "index.md"],
  [/^docs\/README\.md$/, "guides.md"],
  [/^docs\/(.+)$/, "$1"],
  [/^examples\/README\.md$/, "examples/index.md"],
  [/^examples\/([^/]+)\/README\.md$/, "examples/$1.md"],
  [/^clients\/typescript\/README\.md$/, "client-typescript-reference.md"],
  [/^README\.es\.md$/, "es/index.md"],
  [/^([A-Z]+)\.md$/, (_, name) => `${name.toLowerCase()}.md`],
];

/** Where a markdown file of the repository is in the site. Both are paths without a leading slash. */
export function sitePath(file) {
  const rule = RULES.find(([pattern]) => pattern.test(file));
  return rule ? file.replace(...rule) : file;
}
