// A network that can be cut: what a page gives the client in place of its defaultEnvironment, to show how a loss goes. And
// what a state of the client looks like on a page, and the button that cuts.

import { defaultEnvironment } from "/hauyna.js";

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
      ...defaultEnvironment,
      isOnline: () => this.backAt === undefined && defaultEnvironment.isOnline(),
      watch: (listener) => {
        this.#watchers.add(listener);
        const off = defaultEnvironment.watch((signal) => this.backAt === undefined && listener(signal));
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

/** A button that cuts while there is a connection, and brings it back while there is none: one button, so that whoever
 * has pressed it has the focus still. */
export class CutButton {
  #button;
  #words;
  #testid;

  /** `words` are what it says in the two cases; `testid` goes before what the tests know it by. */
  constructor(button, { cut, retry, words = ["Cut the socket", "Reconnect now"], testid = "" }) {
    this.#button = button;
    this.#words = words;
    this.#testid = testid;
    button.addEventListener("click", ({ detail }) => {
      // The second of a double click would undo the first.
      if (detail > 1 || button.ariaDisabled === "true") return;
      if (this.#cuts) cut();
      else retry();
    });
    this.show("connecting");
  }

  get #cuts() {
    return this.#button.dataset.testid !== `${this.#testid}retry`;
  }

  /** `name` is what `look` gives; an attempt that is under way is waited for. */
  show(name) {
    this.#button.ariaDisabled = String(name === "connecting");
    if (name === "connecting" && this.#button.dataset.testid) return;
    const cuts = name === "connected" || name === "connecting";
    this.#button.dataset.testid = this.#testid + (cuts ? "cut" : "retry");
    (this.#button.querySelector("span") ?? this.#button).textContent = this.#words[cuts ? 0 : 1];
  }
}
