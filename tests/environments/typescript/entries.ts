// What goes with the client, by its entries of the package. It has to compile with every TypeScript that resolves them.

import { serveTabs, sharedClient } from "hauyna/shared";
import { FakeServer, Refusal } from "hauyna/testing";

interface Chat {
  requests: { rename: { data: { name: string }; reply: { name: string } } };
  channels: { "room:{id}": { message: { text: string } } };
}

export async function tested(): Promise<string | undefined> {
  const server = new FakeServer<Chat>({ channels: { history: 5 }, authenticate: ({ query, token }) => token ?? query["user"] ?? "me" });
  server.answer("rename", ({ name }, user) => {
    if (!name) throw new Refusal("validation_error");
    return { name: `${user} ${name}` };
  });
  const client = await server.connected({ user: "ana" });
  await server.channel("room:1").publish({ text: "hi" });
  // @ts-expect-error the contract has no such channel
  server.channel("lobby");
  // @ts-expect-error it is a text
  await server.channel("room:1").publish({ text: 1 });
  return client.user;
}

export async function shared(worker: Parameters<typeof sharedClient>[1]["worker"]): Promise<void> {
  const client = sharedClient<Chat>("/live", { worker, timeout: undefined });
  await client.channel("room:1").publish({ text: "hi" });
  serveTabs();
}
