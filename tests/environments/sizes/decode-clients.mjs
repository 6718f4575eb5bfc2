// Each client with one channel and one listener on a socket that the benchmark holds, and how its server
// writes a frame. The last row is no client: it is what JSON.parse alone takes.

/** A class of sockets; `answer(socket, frame)` is what the server does with what the client sends. */
function socketClass(opened, answer) {
  return class {
    binaryType = "";
    readyState = 0;
    protocol = "";
    constructor(url, protocols) {
      this.url = url;
      this.protocols = protocols;
      opened(this);
      queueMicrotask(() => {
        this.readyState = 1;
        this.onopen?.({});
        answer(this, undefined);
      });
    }
    send(frame) {
      queueMicrotask(() => answer(this, frame));
    }
    say(data) {
      this.onmessage({ data });
    }
    close() {}
  };
}

/** This client with either codec. */
function hauyna(codecName) {
  return async (load) => {
    const module = await load("hauyna");
    const codec = module[codecName];
    const write = (message) => {
      const frame = codec.encode(message);
      return typeof frame === "string" ? frame : frame.slice().buffer;
    };
    let socket;
    const read = (frame) => codec.decode(typeof frame === "string" ? frame : frame.slice().buffer);
    const WebSocket = socketClass((opened) => (socket = opened), (socket, frame) => {
      if (frame === undefined) return socket.say(write({ type: "session", connection_id: "c-1", user: "ana" }));
      const { id, type, channel } = read(frame);
      const data = { channel, recoverable: true, epoch: "e", offset: 0 };
      if (type === "subscribe_channel") socket.say(write({ type: "ack", id, data }));
      else if (type === "ping") socket.say(write({ type: "pong", id }));
    });
    const client = new module.Client("wss://server.example/live", { WebSocket, codec });
    const heard = { count: 0, length: 0 };
    const room = client.channel("room:1");
    room.on("message", ({ content }) => {
      heard.count++;
      heard.length += content.text.length;
    });
    await client.connect();
    await room.subscribe();
    const frame = (offset, content) =>
      write({ type: "message", channel: "room:1", user: "ana", content, timestamp: 1_700_000_000_000, offset });
    return { heard, frame, deliver: (data) => socket.say(data) };
  };
}

async function phoenix(load) {
  const { Socket } = await load("phoenix");
  let socket;
  const transport = socketClass((opened) => (socket = opened), (socket, frame) => {
    if (frame === undefined) return;
    const [joinRef, ref, topic, event] = JSON.parse(frame);
    if (event === "phx_join") socket.say(JSON.stringify([joinRef, ref, topic, "phx_reply", { status: "ok", response: {} }]));
  });
  const client = new Socket("wss://server.example/socket", { transport });
  client.connect();
  const room = client.channel("room:1");
  const heard = { count: 0, length: 0 };
  room.on("message", ({ content }) => {
    heard.count++;
    heard.length += content.text.length;
  });
  await new Promise((resolve, reject) => room.join().receive("ok", resolve).receive("error", reject));
  const frame = (offset, content) =>
    JSON.stringify([null, null, "room:1", "message", { user: "ana", content, timestamp: 1_700_000_000_000, offset }]);
  return { heard, frame, deliver: (data) => socket.say(data) };
}

async function socketIo(load) {
  let socket;
  globalThis.WebSocket = socketClass((opened) => (socket = opened), (socket, frame) => {
    const terms = { sid: "s", upgrades: [], pingInterval: 25_000, pingTimeout: 600_000, maxPayload: 1_000_000 };
    if (frame === undefined) socket.say(`0${JSON.stringify(terms)}`);
    else if (frame === "40") socket.say('40{"sid":"c-1"}');
  });
  // It takes the page's class of sockets when it is imported.
  const { io } = await load("socket.io-client");
  const client = io("wss://server.example", { transports: ["websocket"] });
  const heard = { count: 0, length: 0 };
  client.on("message", ({ content }) => {
    heard.count++;
    heard.length += content.text.length;
  });
  await new Promise((resolve) => client.on("connect", resolve));
  const frame = (offset, content) =>
    `42${JSON.stringify(["message", { channel: "room:1", user: "ana", content, timestamp: 1_700_000_000_000, offset }])}`;
  return { heard, frame, deliver: (data) => socket.say(data) };
}

/** Nothing but JSON.parse and a call: what no client with JSON can be faster than. */
async function parseOnly() {
  const heard = { count: 0, length: 0 };
  const listener = ({ content }) => {
    heard.count++;
    heard.length += content.text.length;
  };
  const frame = (offset, content) =>
    JSON.stringify({ type: "message", channel: "room:1", user: "ana", content, timestamp: 1_700_000_000_000, offset });
  return { heard, frame, deliver: (data) => listener(JSON.parse(data)) };
}

export const CLIENTS = [
  { name: "hauyna, JSON", start: hauyna("json") },
  { name: "hauyna, MessagePack", start: hauyna("msgpack") },
  { name: "phoenix", start: phoenix },
  { name: "socket.io-client", start: socketIo },
  { name: "JSON.parse alone", start: parseOnly },
];
