// The same few steps in every environment: construct, connect, subscribe, listen, publish, close. The environment
// imports the client as its users do and passes it in; the server's side is a class of sockets. Only old syntax is
// used, and nothing that an environment may lack.

/** A WebSocket class whose other end answers like a server. `opened` collects the addresses. */
function fakeSocket(opened) {
  return class FakeSocket {
    constructor(url, protocols) {
      opened.push(url);
      this.protocols = protocols;
      this.later(function (socket) {
        socket.onopen && socket.onopen({});
        socket.say({ type: "session", connection_id: "c-1", user: "ana" });
      });
    }
    later(run) {
      const socket = this;
      Promise.resolve().then(function () {
        run(socket);
      });
    }
    say(message) {
      this.onmessage && this.onmessage({ data: JSON.stringify(message) });
    }
    send(frame) {
      const message = JSON.parse(frame);
      this.later(function (socket) {
        if (message.type === "subscribe_channel") {
          const data = { channel: message.channel, recoverable: true, epoch: "e", offset: 0 };
          socket.say({ type: "ack", id: message.id, data: data });
          const said = { type: "message", channel: message.channel, user: "ben", content: "hello", timestamp: 1, offset: 1 };
          socket.say(said);
        } else if (message.id !== undefined) {
          socket.say({ type: "ack", id: message.id, data: { epoch: "e", offset: 2 } });
        }
      });
    }
    close() {}
  };
}

/** Runs the steps with the client's module and returns what happened, in one line. */
async function scenario(hauyna, url) {
  const opened = [];
  const client = new hauyna.Client(url || "wss://server.example/live", { WebSocket: fakeSocket(opened) });
  if (opened.length > 0) throw new Error("a socket was opened before connect()");
  await client.connect();
  const room = client.channel("room:1");
  const heard = new Promise(function (resolve) {
    room.on("message", resolve);
  });
  await room.subscribe();
  const message = await heard;
  const position = await room.publish("again");
  const user = client.user;
  client.close();
  const failed = await room.publish("too late").catch(function (error) {
    return error;
  });
  if (!(failed instanceof hauyna.HauynaError) || failed.kind !== "closed") throw new Error("not a HauynaError: " + failed);
  return "connected as " + user + ", heard " + message.content + ", published at " + position.offset + ", " + client.state.name;
}

module.exports = { fakeSocket, scenario };
