// The hooks, typed by the contract of this application.

import { createHooks } from "hauyna/react";
import type { Chat } from "../../vite/chat.js";

export const { useChannel, useRequest } = createHooks<Chat>();
