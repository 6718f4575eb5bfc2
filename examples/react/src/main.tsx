// The page: one client for all of it, which connects when the provider is mounted.

import { Client } from "hauyna";
import { HauynaProvider } from "hauyna/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { type Chat, ownName } from "../../vite/chat.js";
import "../../vite/chat.css";
import { App } from "./App.js";

const name = ownName();
const client = new Client<Chat>(`/chat?user_id=${encodeURIComponent(name)}`);

createRoot(document.getElementById("app") as HTMLElement).render(
  <StrictMode>
    <HauynaProvider client={client}>
      <App name={name} />
    </HauynaProvider>
  </StrictMode>,
);
