// A page in development: its address of the server is relative, and Vite's proxy passes it on.

import { Client } from "hauyna";

async function chat() {
  const client = new Client("/chat?user_id=ana");
  await client.connect();
  const room = client.channel("room:1");
  const heard = new Promise((resolve) => room.on("message", ({ content }) => resolve(content.text)));
  await room.subscribe();
  await room.publish({ text: "through the proxy" });
  const text = await heard;
  client.close();
  return `${client.user}: ${text}`;
}

globalThis.chatResult = chat().catch((error) => `${error.kind}: ${error.message}`);
