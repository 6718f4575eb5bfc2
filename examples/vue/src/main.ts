// The page: one client for all of it, which connects when the application is mounted.

import { Client } from "hauyna";
import { hauyna } from "hauyna/vue";
import { createApp } from "vue";
import { type Chat, ownName } from "../../vite/chat.js";
import "../../vite/chat.css";
import App from "./App.vue";

const name = ownName();
const client = new Client<Chat>(`/chat?user_id=${encodeURIComponent(name)}`);

createApp(App, { name }).use(hauyna, client).mount("#app");
