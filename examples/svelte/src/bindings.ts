// The functions, typed by the contract of this application.

import { createBindings } from "hauyna/svelte";
import type { Chat } from "../../vite/chat.js";

export const { useChannel, useRequest } = createBindings<Chat>();
