// The composables, typed by the contract of this application.

import { createComposables } from "hauyna/vue";
import type { Chat } from "../../vite/chat.js";

export const { useChannel, useRequest } = createComposables<Chat>();
