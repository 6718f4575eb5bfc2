// As docs/server-rendering.md has it: a relative address, and no browser to be relative to.

import { Client } from "hauyna";
import { hauyna } from "hauyna/vue";

export default defineNuxtPlugin(({ vueApp }) => {
  vueApp.use(hauyna, new Client("/chat"));
});
