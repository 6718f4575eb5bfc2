// The same page with each client: connect, subscribe to one channel, listen, publish. Each entry is what the
// client's own documentation shows for that; nothing of it runs here.

export const ENTRIES = {
  hauyna: `
    import { Client } from "hauyna";
    const client = new Client("wss://server.example/live");
    const room = client.channel("room:1");
    room.on("message", (message) => console.log(message.content));
    client.connect();
    room.subscribe();
    room.publish("hello");`,
  phoenix: `
    import { Socket } from "phoenix";
    const socket = new Socket("wss://server.example/socket");
    socket.connect();
    const room = socket.channel("room:1");
    room.on("message", (message) => console.log(message));
    room.join();
    room.push("message", "hello");`,
  "socket.io-client": `
    import { io } from "socket.io-client";
    const socket = io("wss://server.example");
    socket.on("message", (message) => console.log(message));
    socket.emit("join", "room:1");
    socket.emit("message", "hello");`,
  "pusher-js": `
    import Pusher from "pusher-js";
    const pusher = new Pusher("key", { cluster: "eu" });
    const room = pusher.subscribe("private-room");
    room.bind("client-message", (message) => console.log(message));
    room.trigger("client-message", "hello");`,
  centrifuge: `
    import { Centrifuge } from "centrifuge";
    const client = new Centrifuge("wss://server.example/connection/websocket");
    const room = client.newSubscription("room:1");
    room.on("publication", (message) => console.log(message.data));
    client.connect();
    room.subscribe();
    room.publish("hello");`,
  ably: `
    import * as Ably from "ably";
    const client = new Ably.Realtime("key");
    const room = client.channels.get("room:1");
    room.subscribe((message) => console.log(message.data));
    room.publish("message", "hello");`,
  "@supabase/realtime-js": `
    import { RealtimeClient } from "@supabase/realtime-js";
    const client = new RealtimeClient("wss://server.example/realtime/v1", { params: { apikey: "key" } });
    const room = client.channel("room:1");
    room.on("broadcast", { event: "message" }, (message) => console.log(message));
    room.subscribe();
    room.send({ type: "broadcast", event: "message", payload: "hello" });`,
  partysocket: `
    import PartySocket from "partysocket";
    const socket = new PartySocket({ host: "server.example", room: "room-1" });
    socket.addEventListener("message", (event) => console.log(event.data));
    socket.send("hello");`,
  "@liveblocks/client": `
    import { createClient } from "@liveblocks/client";
    const client = createClient({ publicApiKey: "pk_key" });
    const { room } = client.enterRoom("room:1");
    room.subscribe("event", ({ event }) => console.log(event));
    room.broadcastEvent("hello");`,
  "laravel-echo (with pusher-js)": `
    import Echo from "laravel-echo";
    import Pusher from "pusher-js";
    const echo = new Echo({ broadcaster: "pusher", key: "key", cluster: "eu", Pusher });
    const room = echo.private("room.1");
    room.listenForWhisper("message", (message) => console.log(message));
    room.whisper("message", "hello");`,
};

/** What the reader should know beside the number. */
export const NOTES = {
  partysocket: "a socket that reconnects; no channels",
  "socket.io-client": "rooms are the server's; falls back to long polling",
};
