// The documentation site. Its pages are the markdown files of the repository where they are: `srcDir` is the root of the
// repository, `rewrites` says where each page is in the site. There are no copies.

import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import footnotes from "markdown-it-footnote"; // the README names the sources of its comparison in footnotes
import { defineConfig } from "vitepress";
import { slugify } from "../slug.mjs";
import { PAGES, sitePath } from "./pages.mjs";
import { repository, repositoryMarkdown } from "./repository.mjs";
import { sidebar, sidebarEs } from "./sidebar.mjs";

const ROOT = new URL("../../", import.meta.url);
const logo = `data:image/svg+xml,${encodeURIComponent(readFileSync(new URL("crates/hauyna-server/assets/hauyna.svg", ROOT), "utf8"))}`;
const nav = [
  { text: "Tutorial", link: "/tutorial" },
  { text: "Guides", link: "/guides" },
  { text: "Examples", link: "/examples/" },
  { text: "Protocol", link: "/protocol" },
  { text: "Changes", link: "/changelog" },
  { text: "Source", link: repository },
];

const SPANISH_SEARCH = {
  button: { buttonText: "Buscar", buttonAriaLabel: "Buscar" },
  modal: {
    displayDetails: "Mostrar detalles",
    resetButtonTitle: "Borrar la búsqueda",
    backButtonTitle: "Cerrar la búsqueda",
    noResultsText: "No hay resultados para",
    footer: {
      selectText: "elegir",
      selectKeyAriaLabel: "Intro",
      navigateText: "navegar",
      navigateUpKeyAriaLabel: "flecha arriba",
      navigateDownKeyAriaLabel: "flecha abajo",
      closeText: "cerrar",
      closeKeyAriaLabel: "Esc",
    },
  },
};

const spanish = {
  nav: [{ text: "Código", link: repository }],
  sidebar: sidebarEs,
  outline: { level: [2, 3], label: "En esta página" },
  editLink: { pattern: `${repository}/edit/main/:path`, text: "Editar esta página" },
  docFooter: { prev: "Anterior", next: "Siguiente" },
  darkModeSwitchLabel: "Apariencia",
  lightModeSwitchTitle: "Modo claro",
  darkModeSwitchTitle: "Modo oscuro",
  sidebarMenuLabel: "Menú",
  returnToTopLabel: "Volver arriba",
  langMenuLabel: "Idioma",
  skipToContentLabel: "Ir al contenido",
  footer: { message: "Licencia MIT" },
};

export default defineConfig({
  title: "Hauyna",
  description: "Real-time channels over WebSocket, for Rust: history, recovery, presence, groups, and clients that come back by themselves.",
  locales: {
    root: { label: "English", lang: "en" },
    es: { label: "Español", lang: "es", link: "/es/", themeConfig: spanish },
  },
  base: process.env.SITE_BASE ?? "/",
  srcDir: "..",
  outDir: "dist",
  cacheDir: ".vitepress/cache",
  // `pages.mjs` lists the folders with pages; everything else in the repository is no page.
  srcExclude: readdirSync(ROOT)
    .filter((name) => !PAGES.folders.includes(name) && !PAGES.files.includes(name))
    .flatMap((name) => [name, `${name}/**`])
    .concat(PAGES.excluded),
  rewrites: sitePath,
  cleanUrls: true,
  ignoreDeadLinks: false,
  vite: {
    plugins: [vueOfThisFolder()],
    optimizeDeps: { entries: [] }, // pages of the examples and tests are none of this site's
  },
  // Pages with tables of four columns, or of pictures, have the place of the outline, too.
  transformPageData: (page) => {
    if (/^(reference|examples\/index)\.md$/.test(page.relativePath)) page.frontmatter.aside = false;
  },
  buildEnd: ({ pages, rewrites }) => checkMenus(pages.map((page) => rewrites.map[page] ?? page)),
  head: [["link", { rel: "icon", type: "image/svg+xml", href: logo }]],
  markdown: {
    anchor: { slugify },
    attrs: { disable: true }, // braces are text here: `room:{id}`
    config: (markdown) => {
      markdown.use(footnotes);
      repositoryMarkdown(markdown);
    },
    theme: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
  },
  themeConfig: {
    logo: { src: logo, alt: "", width: 24, height: 24 },
    nav,
    sidebar,
    outline: { level: [2, 3], label: "On this page" },
    search: { provider: "local", options: { locales: { es: { translations: SPANISH_SEARCH } } } },
    i18nRouting: false, // most pages are in one language
    editLink: { pattern: `${repository}/edit/main/:path`, text: "Edit this page" },
    footer: { message: "MIT licence" },
    externalLinkIcon: true,
  },
});

/** Links of the first page and the menus, which VitePress does not look up. */
function checkMenus(pages) {
  const [, head] = /^---\n([^]*?)\n---/.exec(readFileSync(new URL("site/index.md", ROOT), "utf8"));
  const links = [...head.matchAll(/\blink: (\/[^\s,}#]*)/g)].map(([, link]) => link);
  for (const { items } of [...sidebar, ...sidebarEs]) links.push(...items.map(({ link }) => link));
  links.push(...nav.map(({ link }) => link).filter((link) => link.startsWith("/")));
  const dead = links.filter((link) => !pages.includes(`${link.replace(/\/$/, "/index").slice(1)}.md`));
  if (dead.length > 0) throw new Error(`links of menus or the first page that lead nowhere: ${dead.join(" ")}`);
}

/** Pages become components that import `vue`, which is installed here and not above, where they are. */
function vueOfThisFolder() {
  const here = fileURLToPath(new URL("../index.md", import.meta.url));
  return {
    name: "vue-of-this-folder",
    enforce: "pre",
    resolveId(name, importer, options) {
      if (/^vue(\/|$)/.test(name) && importer?.endsWith(".md")) return this.resolve(name, here, { ...options, skipSelf: true });
    },
  };
}
