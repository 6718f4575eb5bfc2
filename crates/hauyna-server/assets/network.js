// A network that can be cut: what a page gives the client in place of its surroundings, to show how a loss goes. And
// what a state of the client looks like on a page.

import { surroundings } from "/hauyna.js";

export class Network {
  /** When it will be back; undefined while it is there. */
  backAt;
  #sockets = new Set();
  #watchers = new Set();
  #timer = 0;

  /** For the client. */
  get options() {
    const network = this;
    class Socket extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        network.#sockets.add(this);
        this.addEventListener("close", () => network.#sockets.delete(this));
      }
    }
    return { WebSocket: Socket, environment: this.#environment() };
  }

  #environment() {
    return {
      ...surroundings,
      isOnline: () => this.backAt === undefined && surroundings.isOnline(),
      watch: (listener) => {
        this.#watchers.add(listener);
        const off = surroundings.watch((signal) => this.backAt === undefined && listener(signal));
        return () => (this.#watchers.delete(listener), off());
      },
    };
  }

  /** Takes the network away for `duration` ms. */
  cut(duration) {
    clearTimeout(this.#timer);
    this.backAt = Date.now() + duration;
    this.#timer = setTimeout(() => this.mend(), duration);
    for (const socket of this.#sockets) {
      const { onclose } = socket;
      socket.onclose = null;
      socket.close(4000); // one of the codes that say: I come back
      onclose?.({ code: 1006, reason: "offline" });
    }
    this.#tell("offline");
  }

  /** It is back. */
  mend() {
    if (this.backAt === undefined) return;
    clearTimeout(this.#timer);
    this.backAt = undefined;
    this.#tell("online");
  }

  #tell(signal) {
    for (const watcher of this.#watchers) watcher(signal);
  }
}

/** `connecting` · `connected` · `waiting` · `closed`: an attempt that is under way is no waiting. */
export function look({ name, retryAt, reason }) {
  if (name === "connected" || name === "closed") return name;
  return retryAt !== undefined || reason === "offline" || !navigator.onLine ? "waiting" : "connecting";
}
