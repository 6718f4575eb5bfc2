// Mistakes in the page of examples/typed: each marked line must be an error, or the compiler fails.

import { Client } from "/hauyna.js";
import type { BoardChannel, Contract } from "../../../examples/typed/page/contract.js";

const client = new Client<Contract>("/live");

// Requests: names, fields, replies.
export const card = await client.request("add_card", { title: "Write", colour: "green" });
export const by: string = card.by;
await client.request("list_cards");
// @ts-expect-error there is no such request
await client.request("add_cards", { title: "Write" });
// @ts-expect-error a field is missing
await client.request("add_card", {});
// @ts-expect-error a field has another name
await client.request("add_card", { titel: "Write" });
// @ts-expect-error a field has another type
await client.request("remove_card", { number: "1" });
// @ts-expect-error there is no such colour
await client.request("add_card", { title: "Write", colour: "pink" });
// @ts-expect-error the reply has no such field
export const owner = card.owner;

// Messages of a channel, by the name and the type of the channel.
for (const board of [client.channel("board:main"), client.channel<BoardChannel>("any")]) {
  board.on("card_added", ({ card, timestamp }) => card.number + timestamp);
  // @ts-expect-error there is no such message
  board.on("card_painted", () => {});
  // @ts-expect-error the message has no such field
  board.on("card_added", ({ colour }) => colour);
  // @ts-expect-error the content has no such field
  board.on("message", ({ content }) => content.body);
  await board.publish({ text: "well done", about: 1 });
  // @ts-expect-error content is not text alone
  await board.publish("well done");
}

// Client requests: their data and their answers.
client.onRequest("confirm", ({ card }) => card.title === "Write");
// @ts-expect-error the answer is true or false
client.onRequest("confirm", () => "yes");
// @ts-expect-error there is no such question
client.onRequest("conform", () => true);
