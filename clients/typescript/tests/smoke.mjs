// One round trip with the built package, imported as an application does. Node, Deno and Bun run it. The
// argument is the address.

import { Client, msgpack } from "hauyna";

const url = process.argv[2];
for (const options of [{}, { codec: msgpack }]) {
  const client = new Client(url, options);
  await client.connect();
  const room = client.channel(`room:smoke-${options.codec ? "msgpack" : "json"}`);
  const heard = new Promise((resolve) => room.on("message", resolve));
  await room.subscribe();
  await room.publish({ text: "¡hola!" });
  const { content, user } = await heard;
  console.log(`${user}: ${content.text}`);
  client.close();
}
