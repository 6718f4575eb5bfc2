// A browser for the tests of shared pages: pages and their worker in one process, over ports without timers,
// with locks and page ends that the test controls. The time is that of a fake server, which the test controls
// as well.

import type { Client, ClientOptions, Environment, WebSocketConstructor } from "../src/index.js";
import type { LocksLike, PortLike, SharedHost } from "../src/shared-host.js";
import { linkedClient } from "../src/shared-link.js";
import { TabServer } from "../src/shared-worker.js";
import type { FakeServer } from "../src/testing.js";

/** The options of a browser. */
export interface BrowserOptions {
  /** Whether the origin is secure, and therefore has locks. Default: true. */
  readonly hasLocks?: boolean;
  /** Whether a port reports that its other end is gone. Default: false, as in most browsers. */
  readonly tellsClose?: boolean;
}

/** One browser with one worker. */
export class Browser {
  readonly server: FakeServer;
  readonly pages: Page[] = [];
  readonly locks = new Locks();
  readonly #options: BrowserOptions;
  worker: Worker | undefined;
  /** How many workers have been started. */
  started = 0;

  constructor(server: FakeServer, options: BrowserOptions = {}) {
    this.server = server;
    this.#options = options;
  }

  get tellsClose(): boolean {
    return this.#options.tellsClose ?? false;
  }

  get locksOfOrigin(): LocksLike | undefined {
    return this.#options.hasLocks === false ? undefined : this.locks;
  }

  get environment(): Environment {
    return this.server.clientOptions.environment as Environment;
  }

  /** Returns a page whose client is not connected. */
  page(options: PageOptions = {}): Page {
    const page = new Page(this, options);
    this.pages.push(page);
    return page;
  }

  /** Returns a page whose client is connected. */
  async connected(options: PageOptions = {}): Promise<Page> {
    const page = this.page(options);
    void page.client.connect().catch(() => {});
    await this.settle();
    return page;
  }

  /** Delivers all messages that were sent over ports and sockets. */
  async settle(): Promise<void> {
    for (let round = 0; round < 10; round++) await this.server.settled();
  }

  async pass(duration: number): Promise<void> {
    await this.settle();
    for (let left = duration; left > 0; left -= 1000) {
      await this.server.pass(Math.min(left, 1000));
      await this.settle();
    }
  }

  /** Ends the worker, as a browser does that is short of memory. */
  async kill(): Promise<void> {
    // The worker's sockets end with it, so no socket may be about to open.
    await this.server.settled();
    this.worker?.end();
    this.worker = undefined;
    await this.server.drop(1006);
    await this.settle();
  }

  join(page: Page): PortLike {
    if (!this.worker) this.started++;
    this.worker ??= new Worker(this);
    return this.worker.join(page);
  }
}

export type PageOptions = Omit<ClientOptions, "WebSocket" | "environment"> & { readonly url?: string };

/** One page of a browser. */
export class Page {
  readonly client: Client;
  /** All messages that the page has sent to workers. */
  readonly said: any[] = [];
  readonly ports: PortLike[] = [];
  readonly #browser: Browser;
  readonly #shows: ((isShown: boolean) => void)[] = [];
  readonly #held: (() => void)[] = [];
  readonly #errors: (() => void)[] = [];
  readonly #watchers = new Set<(signal: "visible") => void>();
  #isCached = false;
  isFrozen = false;
  isGone = false;

  constructor(browser: Browser, { url = "wss://fake.example/?user=ana", ...options }: PageOptions) {
    this.#browser = browser;
    const { environment } = browser;
    const host: SharedHost = {
      environment: {
        now: () => environment.now(),
        random: () => environment.random(),
        after: (delay, run) => environment.after(delay, () => this.run(run)),
        isOnline: () => true,
        watch: (listener) => {
          this.#watchers.add(listener);
          return () => this.#watchers.delete(listener);
        },
      },
      locks: browser.locksOfOrigin,
      WebSocket: browser.server.WebSocket as WebSocketConstructor,
      onShown: (listener) => this.#shows.push(listener),
    };
    const worker = () => {
      const port = browser.join(this);
      return { port, addEventListener: (_: "error", listener: () => void) => void this.#errors.push(listener) };
    };
    this.client = linkedClient(url, worker, { logger: SILENT, ...options }, host);
  }

  /** Sends a message to the worker without the page's client. */
  post(message: unknown): void {
    this.ports.at(-1)?.postMessage(message);
  }

  /** Runs `work` if the page is alive, or later if it is frozen. */
  run(work: () => void): void {
    if (this.isFrozen) this.#held.push(work);
    else if (!this.isGone) work();
  }

  /** Ends the page without a message. */
  async end(): Promise<void> {
    this.isGone = true;
    this.#release();
    this.#browser.worker?.pageEnded(this);
    await this.#browser.settle();
  }

  /** Handles that the user leaves the page: it is notified, and then ends or is frozen. */
  async leave({ isCached = false } = {}): Promise<void> {
    for (const show of this.#shows) show(false);
    this.#isCached = isCached;
    if (isCached) this.isFrozen = true;
    else await this.end();
    await this.#browser.settle();
  }

  /** Freezes the page: nothing runs until it is thawed. With `isReleased` the browser releases its locks. */
  async freeze({ isReleased = false } = {}): Promise<void> {
    this.isFrozen = true;
    if (isReleased) this.#release();
    await this.#browser.settle();
  }

  async thaw(): Promise<void> {
    this.isFrozen = false;
    for (const work of this.#held.splice(0)) this.run(work);
    if (this.#isCached) for (const show of this.#shows) show(true);
    this.#isCached = false;
    await this.#browser.settle();
  }

  /** Makes the page visible. */
  look(): void {
    for (const watcher of this.#watchers) watcher("visible");
  }

  /** Makes the worker's script throw an uncaught error, in a browser that reports it to the pages. */
  async fail(): Promise<void> {
    for (const listener of this.#errors) listener();
    await this.#browser.settle();
  }

  #release(): void {
    for (const { say, lock } of this.said) if (say === "hello") this.#browser.locks.release(lock);
  }
}

/** The shared worker. */
class Worker {
  readonly #browser: Browser;
  readonly #tabs: TabServer;
  readonly #ports: { page: Page; near: Port; far: Port }[] = [];
  readonly #locks = new Set<string>();
  #isGone = false;

  constructor(browser: Browser) {
    this.#browser = browser;
    const { environment, locksOfOrigin: locks } = browser;
    const own: LocksLike | undefined = locks && {
      request: (name, held) => {
        if (name.startsWith("hauyna worker")) this.#locks.add(name);
        return locks.request(name, () => (this.#isGone ? undefined : held()));
      },
    };
    const run = (work: () => void) => this.#isGone || work();
    this.#tabs = new TabServer({
      environment: {
        now: () => environment.now(),
        random: () => environment.random(),
        after: (delay, work) => environment.after(delay, () => run(work)),
        isOnline: () => true,
        watch: (listener) => environment.watch((signal) => run(() => listener(signal))),
      },
      locks: own,
      WebSocket: browser.server.WebSocket as WebSocketConstructor,
      onShown: () => {},
    });
  }

  join(page: Page): PortLike {
    const near = new Port((work) => page.run(work), () => page.isGone);
    const far = new Port((work) => this.#isGone || work(), () => this.#isGone);
    near.other = far;
    far.other = near;
    page.ports.push(near);
    near.spy = (message) => page.said.push(message);
    this.#ports.push({ page, near, far });
    this.#tabs.join(far);
    return near;
  }

  pageEnded(page: Page): void {
    if (!this.#browser.tellsClose) return;
    for (const { far } of this.#ports.filter((one) => one.page === page)) far.onclose?.(undefined as never);
  }

  end(): void {
    this.#isGone = true;
    for (const name of this.#locks) this.#browser.locks.release(name);
    for (const { near } of this.#ports) if (this.#browser.tellsClose) near.onclose?.(undefined as never);
  }
}

/** One end of a port. Messages are cloned as in a browser, and arrive in order. */
class Port implements PortLike {
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  other: Port | undefined;
  spy: (message: any) => void = () => {};
  readonly #run: (work: () => void) => void;
  readonly #isDead: () => boolean;

  constructor(run: (work: () => void) => void, isDead: () => boolean = () => false) {
    this.#run = run;
    this.#isDead = isDead;
  }

  postMessage(message: unknown): void {
    if (this.#isDead()) return;
    const data = structuredClone(message);
    this.spy(data);
    const { other } = this;
    void Promise.resolve().then(() => other?.arrive(data));
  }

  arrive(data: unknown): void {
    this.#run(() => this.onmessage?.({ data } as never));
  }
}

/** The locks of an origin. */
export class Locks implements LocksLike {
  readonly #queues = new Map<string, (() => void)[]>();

  async request(name: string, held: () => unknown): Promise<unknown> {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    await new Promise<void>((grant) => {
      queue.push(grant);
      if (queue.length === 1) grant();
    });
    const result = await held();
    this.release(name);
    return result;
  }

  /** Releases a lock, because its holder is gone. */
  release(name: string): void {
    const queue = this.#queues.get(name);
    queue?.shift();
    if (queue?.length === 0) this.#queues.delete(name);
    else queue?.[0]?.();
  }

  /** How many locks are held. */
  get size(): number {
    return this.#queues.size;
  }
}

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
