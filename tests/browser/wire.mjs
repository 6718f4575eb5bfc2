// A port that forwards everything to another port until it is cut: a network between a page and the program.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Wire {
  #server = createServer();
  #sockets = new Set();
  #port;
  /** Refuses new connections. */
  isDown = false;

  static async to(port) {
    const wire = new Wire();
    wire.#port = port;
    wire.#server.on("connection", (near) => wire.#join(near));
    wire.#server.listen(0, "127.0.0.1");
    await once(wire.#server, "listening");
    return wire;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Ends every connection without a close frame, as a lost network does. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    if (this.isDown) return near.destroy();
    const far = connect(this.#port, "127.0.0.1");
    const pair = [near, far];
    for (const socket of pair) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        for (const end of pair) end.destroy();
      });
    }
    near.pipe(far).pipe(near);
  }
}
