// The set-up of the tests of the Vue bindings: a page with one application, which is unmounted after each
// test.

import { type App, createApp, defineComponent, nextTick } from "vue";
import { hauyna } from "../src/vue.js";
import type { Chat } from "./chat.js";
import { eachPage } from "./page.js";

let app: App | undefined;

/** Unmounts the application after each test. */
export function eachVuePage(): void {
  eachPage(unmount);
}

/** Registers an application that is unmounted after its test. */
export function remember<T extends App>(created: T): T {
  app = created;
  return created;
}

/** Unmounts the application. */
export function unmount(): void {
  app?.unmount();
  app = undefined;
}

/** Mounts a component with the client of the chat. */
export async function mount(chat: Chat, setup: () => () => unknown): Promise<void> {
  const created = remember(createApp(defineComponent({ setup })));
  created.use(hauyna, chat.client);
  created.mount(document.body.appendChild(document.createElement("main")));
  await turn(chat);
}

/** Runs everything that is due in the chat and the page. */
export async function turn(chat: Chat): Promise<void> {
  await chat.turn();
  await nextTick();
}

/** Returns the text of the page. */
export const text = () => document.querySelector("main")?.textContent;
