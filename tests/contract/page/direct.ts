// Messages outside of channels, by the contract of the tests in Rust: it says what `private` carries, not what `group` does.

import { Client } from "/hauyna.js";
import type { Contract } from "../zoo.js";

const client = new Client<Contract>("/live");

client.on("private", ({ message, from, timestamp }) => `${message.text} ${from} ${timestamp}`);
// @ts-expect-error what it carries has no such field
client.on("private", ({ message }) => message.body);
// @ts-expect-error nobody said what this carries
client.on("group", ({ message, room }) => message.text + room);
client.on("connection_state", ({ state }) => state);
client.on("typing", ({ user }) => user);
// @ts-expect-error the message has no such field
client.on("typing", ({ text }) => text);
// @ts-expect-error there is no such message
client.on("writing", () => {});

// An answer of null has no data.
export const first: string | undefined = (await client.request("first_folder"))?.name;
// @ts-expect-error it may be undefined
export const name: string = (await client.request("first_folder")).name;
client.onRequest("look", () => {});
