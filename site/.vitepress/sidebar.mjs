// The order in which the pages are read. Every guide in `docs/` must be in it.

import { readFileSync, readdirSync } from "node:fs";
import { sitePath } from "./pages.mjs";

const ROOT = new URL("../../", import.meta.url);

const item = (text, link) => ({ text, link });

export const sidebar = [
  {
    text: "Start",
    items: [
      item("What it is", "/"),
      item("Tutorial", "/tutorial"),
      item("All guides", "/guides"),
      item("Examples", "/examples/"),
    ],
  },
  {
    text: "Guides: the server",
    items: [
      item("Channels", "/channels"),
      item("Sessions", "/sessions"),
      item("Presence", "/presence"),
      item("Groups and roles", "/groups"),
      item("Routing, authentication", "/routing"),
      item("Events", "/events"),
      item("State", "/state"),
      item("Connection states", "/states"),
      item("Validation", "/validation"),
      item("Errors and limits", "/errors"),
      item("Contract: shared types", "/contract"),
      item("Testing", "/testing"),
    ],
  },
  {
    text: "Guides: the clients",
    items: [
      item("TypeScript", "/client-typescript"),
      item("Rust", "/client-rust"),
      item("React", "/react"),
      item("Vue", "/vue"),
      item("Svelte", "/svelte"),
      item("React Native", "/react-native"),
      item("Rendering on a server", "/server-rendering"),
      item("Development with Vite", "/vite"),
      item("Testing pages", "/testing-applications"),
    ],
  },
  { text: "Cookbook", items: [item("Recipes for pages", "/recipes")] },
  {
    text: "Reference",
    items: [
      item("What there is", "/reference"),
      item("TypeScript client", "/client-typescript-reference"),
      item("Protocol", "/protocol"),
      item("Architecture", "/architecture"),
      item("Changes", "/changelog"),
    ],
  },
  {
    text: "Operations",
    items: [item("The program", "/program"), item("Deployment", "/deployment"), item("Metrics, logs, health", "/operations"), item("Security", "/security")],
  },
  {
    text: "Moving from",
    items: [
      item("The Crystal original", "/from-the-original"),
      item("Socket.IO", "/moving-from-socket-io"),
      item("Pusher", "/moving-from-pusher"),
      item("Supabase Realtime", "/moving-from-supabase"),
    ],
  },
  { text: "Project", items: [item("Contributing", "/contributing")] },
];

/** What there is in Spanish, and where English begins. */
export const sidebarEs = [
  { text: "En español", items: [item("Qué es", "/es/"), ...pagesIn("docs/es/")] },
  { text: "En inglés", items: [item("Tutorial", "/tutorial"), item("Guías", "/guides"), item("Ejemplos", "/examples/"), item("Protocolo", "/protocol")] },
];

const links = new Set(sidebar.flatMap(({ items }) => items.map(({ link }) => link)));
for (const file of readdirSync(new URL("docs/", ROOT)).filter((name) => name.endsWith(".md"))) {
  const link = `/${sitePath(`docs/${file}`).slice(0, -3)}`;
  if (!links.has(link)) throw new Error(`docs/${file} has no line in site/.vitepress/sidebar.mjs`);
}

/** The pages of a folder by their titles, if there is such a folder. */
function pagesIn(folder) {
  try {
    const files = readdirSync(new URL(folder, ROOT)).filter((name) => name.endsWith(".md"));
    return files.map((file) => {
      const [, title] = /^# (.*)$/m.exec(readFileSync(new URL(folder + file, ROOT), "utf8"));
      return item(title, `/${sitePath(folder + file).slice(0, -3)}`);
    });
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}
