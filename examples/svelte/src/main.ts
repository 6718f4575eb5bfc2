// The page: one client for all of it, which connects when the component App is mounted.

import { Client } from "hauyna";
import { mount } from "svelte";
import { type Chat, ownName } from "../../vite/chat.js";
import "../../vite/chat.css";
import App from "./App.svelte";

const name = ownName();
const client = new Client<Chat>(`/chat?user_id=${encodeURIComponent(name)}`);

mount(App, { target: document.getElementById("app") as HTMLElement, props: { client, name } });
