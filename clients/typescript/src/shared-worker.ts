// The worker's side of a shared connection: the ports of the pages, which pages still live, and which
// connection each of them shares.

import { json, msgpack } from "hauyna";
import { type PortLike, type SharedHost, realBrowser, holdLock, whenReleased } from "./shared-host.js";
import { Hub } from "./shared-hub.js";
import { type FromPage, type FromWorker, type Settings, VERSION } from "./shared-messages.js";
import { LOST, Tab } from "./shared-tab.js";

/**
 * Serves the pages that connect to this shared worker, see {@link sharedClient}. The worker's script calls it
 * once.
 */
export function serveTabs(): void {
  const tabs = new TabServer(realBrowser);
  // The compiler of a page has no type for the scope of a worker.
  const scope = globalThis as unknown as { onconnect: (event: MessageEvent) => void };
  scope.onconnect = ({ ports: [port] }) => port && tabs.join(port);
}

/** A page that has said `hello`. */
interface ConnectedPage {
  readonly hub: Hub;
  readonly tab: Tab;
  readonly lock: string | undefined;
}

/** The pages of one worker. */
export class TabServer {
  readonly #host: SharedHost;
  /** The hubs by the settings that their pages share. */
  readonly #hubs = new Map<string, Hub>();
  /** The lock that this worker holds as long as it lives. */
  #lock: Promise<{ name: string | undefined }> | undefined;

  constructor(host: SharedHost) {
    this.#host = host;
  }

  join(port: PortLike): void {
    const post = (message: FromWorker) => port.postMessage(message);
    let joined: ConnectedPage | undefined;
    let cancel = () => {};
    const leave = () => {
      cancel();
      joined?.hub.leave(joined.tab);
      joined = undefined;
    };
    /** If the page is only frozen, it receives the message later. */
    const pageIsGone = () => {
      if (!joined) return;
      leave();
      post({ say: "gone" });
    };
    port.onclose = leave;
    port.onmessage = ({ data }: MessageEvent<FromPage>) => {
      if (data.say === "hello") {
        leave();
        if (data.version !== VERSION) return post({ say: "alone" });
        const page = (joined = this.#addPage(data, post));
        void this.#sayWelcome(post);
        whenReleased(this.#host, page.lock, () => joined === page && pageIsGone());
      } else if (data.say === "bye") return leave();
      else if (!joined) {
        if (data.say === "open" || data.say === "frame") post({ say: "closed", socket: data.socket, code: LOST, reason: "unknown page" });
        if (data.say !== "close") post({ say: "gone" });
        return;
      } else joined.hub.receive(joined.tab, data);
      // A page without a lock has to send a message from time to time.
      cancel();
      if (joined && joined.lock === undefined) cancel = this.#host.environment.after(MAX_SILENCE, pageIsGone);
    };
  }

  #addPage({ lock, settings }: FromPage & { say: "hello" }, post: (message: FromWorker) => void): ConnectedPage {
    const key = JSON.stringify([settings.url, settings.protocol, settings.hasToken]);
    const hub = this.#hubs.get(key) ?? new Hub(settings, this.#host, () => this.#hubs.delete(key));
    this.#hubs.set(key, hub);
    const tab = new Tab(post, codecOf(settings), (delay, run) => this.#host.environment.after(delay, run));
    hub.join(tab);
    return { hub, tab, lock };
  }

  async #sayWelcome(post: (message: FromWorker) => void): Promise<void> {
    const { name } = await (this.#lock ??= holdLock(this.#host, "hauyna worker"));
    post({ say: "welcome", lock: name });
  }
}

export function codecOf({ protocol }: Settings) {
  return protocol === msgpack.protocol ? msgpack : json;
}

/**
 * Milliseconds after which a silent page without locks counts as gone. Timers of hidden pages run once a
 * minute.
 */
const MAX_SILENCE = 180_000;
