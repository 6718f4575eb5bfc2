// The messages of a channel in one list: its history, what comes live or is recovered, and the own ones from the moment
// they are written. Ordered by epoch and offset, each once, bounded; where some may be missing stands a gap.

import type { AnyChannel, AnyClient, Channel, ChannelState, ContentOf, Gap, HauynaError, Unsubscribe, Position, Publication, State } from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";
import { Timeline } from "./timeline.js";

/** A message in the list. */
export interface ListedMessage<Content> {
  readonly kind: "message";
  /** The same as long as it is in the list, and of no other entry. */
  readonly key: string;
  /** `pending`: the server has not answered. `failed`: it was not published, as far as is known; see `error`. */
  readonly status: "sent" | "pending" | "failed";
  readonly content: Content;
  /** Who has published it; nobody where it was the application itself. */
  readonly user?: string | undefined;
  /** Milliseconds since the Unix epoch; by the own clock where this client has published it. */
  readonly timestamp: number;
  /** Its number, where the channel numbers its publications. */
  readonly offset?: number | undefined;
  /** Why it has failed. */
  readonly error?: HauynaError | undefined;
}

/** A place at which messages may be missing. */
export interface ListedGap {
  readonly kind: "gap";
  readonly key: string;
  readonly gap: Gap;
}

/** A list at one moment. */
export interface MessagesState<Content> {
  /** Oldest first. */
  readonly messages: readonly (ListedMessage<Content> | ListedGap)[];
  /** The server keeps older messages: {@link MessageActions.loadOlder}. */
  readonly hasOlder: boolean;
  /** The history is being asked for. */
  readonly isLoading: boolean;
  /** Why there is no subscription, or the history could not be read. */
  readonly error: HauynaError | undefined;
}

/** What can be done with a list. None of it ever rejects. */
export interface MessageActions<Content> {
  /** Publishes, and shows it at once. Resolves with whether the server has taken it; where not, the message has failed. */
  publish(content: Content): Promise<boolean>;
  /** Publishes a message again that has failed: once, even if the first time has come through. */
  retry(key: string): Promise<boolean>;
  /** Takes a message out of the list that has failed. */
  discard(key: string): void;
  /** Loads the page of the history before the oldest message. */
  loadOlder(): Promise<void>;
}

/** How a list is kept. */
export interface MessagesOptions {
  /** Messages in one page of the history. Default: 50. */
  readonly pageSize?: number | undefined;
  /** Messages that are kept, besides what `loadOlder` has brought; older ones are dropped. Default: 500. */
  readonly max?: number | undefined;
}

type Message = ListedMessage<any>;
type AnyPublication = Publication<any>;
type Placed = Pick<Message, "content" | "user" | "timestamp" | "offset">;

/** The messages of a channel, while the list is listened to. It needs a subscription, which it does not ask for. */
export function createMessageList<C>(
  client: AnyClient,
  channel: Channel<C, any> | null,
  options: MessagesOptions = {},
): Store<MessagesState<ContentOf<C>>> & MessageActions<ContentOf<C>> {
  const list = new List(client, channel, options);
  return {
    ...createStore(
      () => list.state(),
      (changed) => list.start(changed),
      list.state(),
      client.environment,
    ),
    publish: (content) => list.publish(content),
    retry: (key) => list.retry(key),
    discard: (key) => list.discard(key),
    loadOlder: () => list.loadOlder(),
  };
}

/** Pages that one call loads at most, where none has a publication. */
const PAGES = 20;

class List {
  readonly #client: AnyClient;
  readonly #channel: AnyChannel | null;
  readonly #pageSize: number;
  readonly #max: number;
  #timeline = new Timeline();
  /** Entries that are kept: `max`, and what was loaded beyond. */
  #room = 0;
  /** Own messages without an answer, and those that have failed: behind all others. */
  #unsent: Message[] = [];
  #state: MessagesState<any> | undefined;
  #isLoading: boolean;
  #error: HauynaError | undefined;
  /** Where the next older page ends, and whether there is one. */
  #edge: Position | undefined;
  #hasOlder = false;
  #count = 0;
  /** Changes where answers to earlier questions mean nothing any more. */
  #turn = 0;
  #tell = nothing;

  constructor(client: AnyClient, channel: AnyChannel | null, { pageSize = 50, max = 500 }: MessagesOptions) {
    this.#client = client;
    this.#channel = channel;
    this.#pageSize = pageSize;
    this.#max = this.#room = max;
    this.#isLoading = channel !== null;
  }

  state(): MessagesState<any> {
    return (this.#state ??= {
      messages: [...this.#timeline.rows.map((row) => row.entry), ...this.#unsent],
      hasOlder: this.#hasOlder,
      isLoading: this.#isLoading,
      error: this.#error,
    });
  }

  start(changed: () => void): Unsubscribe {
    const channel = this.#channel;
    if (!channel) return nothing;
    this.#tell = changed;
    const all = lists.get(channel) ?? new Set();
    lists.set(channel, all.add(this));
    let isNew = true;
    let isFirst = true;
    const follow = () => {
      const { name, error }: ChannelState = channel.state;
      if (name === "unsubscribed") {
        isNew = true;
        this.#turn++;
        // Once it has ended, nothing is on its way.
        this.#report(isFirst && !error, error);
      } else if (name === "subscribed" && isNew) {
        isNew = isFirst = false;
        this.#begin(channel);
      }
    };
    // Of a client that was closed permanently nothing comes, until somebody connects it again.
    const attend = (state: State) => {
      if (state.name !== "closed") {
        if (isNew && this.#error && this.#error.kind !== "refused") this.#report(true);
      } else if (this.#isLoading && state.code !== undefined) this.#report(false, state.error);
    };
    follow();
    attend(this.#client.state);
    const off = endAll(
      this.#client.onState(attend),
      channel.on("message", (message) => this.#arrive(message, channel)),
      channel.onState(follow),
      channel.onGap((gap) => {
        const isSame = this.#timeline.mark(gap.to?.epoch, { kind: "gap", key: this.#key(), gap });
        if (!isSame) this.#edge = undefined;
        this.#load(channel);
      }),
    );
    return () => {
      off();
      all.delete(this);
      this.#tell = nothing;
    };
  }

  async publish(content: unknown): Promise<boolean> {
    if (!this.#channel) return false;
    const { user, environment } = this.#client;
    const timestamp = environment.now();
    const own: Message = { kind: "message", key: unique(), status: "pending", content: snapshot(content), user, timestamp };
    this.#unsent.push(own);
    return this.#send(own, this.#channel);
  }

  async retry(key: string): Promise<boolean> {
    const own = this.#unsent.find((one) => one.key === key && one.status === "failed");
    if (!own || !this.#channel) return false;
    this.#become({ ...own, status: "pending", error: undefined });
    return this.#send(own, this.#channel);
  }

  discard(key: string): void {
    this.#unsent = this.#unsent.filter((own) => own.key !== key || own.status === "pending");
    this.#change();
  }

  async loadOlder(): Promise<void> {
    const channel = this.#channel;
    if (!channel || channel.state.name === "unsubscribed" || this.#isLoading || !(this.#hasOlder || this.#error)) return;
    // The numbering may have gone on under another epoch.
    await this.#load(channel, this.#edge && { ...this.#edge, epoch: channel.position?.epoch ?? this.#edge.epoch });
  }

  /** A subscription begins; what came before it has no connection with it. */
  #begin(channel: AnyChannel): void {
    this.#timeline = new Timeline();
    this.#room = this.#max;
    this.#edge = undefined;
    this.#hasOlder = false;
    void this.#load(channel);
  }

  #arrive(message: AnyPublication, channel: AnyChannel): void {
    const { content, user, offset } = message;
    const isSame = (own: Message) => !UNDONE.test(own.error?.kind ?? "") && text(own.content) === text(content);
    // After a reconnect an own message may come back before its answer.
    const own = offset !== undefined && user === this.#client.user ? this.#take(isSame) : undefined;
    this.#add(message, channel.position?.epoch, own?.key);
  }

  /** Loads the page before this position, or the newest one, and further ones while all that comes is the application's own. */
  async #load(channel: AnyChannel, before?: Position): Promise<void> {
    const turn = ++this.#turn;
    this.#error = undefined;
    // Without a position there is no history.
    this.#isLoading = channel.position !== undefined;
    this.#change();
    if (!this.#isLoading) return this.#trim();
    try {
      const limit = this.#pageSize;
      // The newest page again, after a gap, changes nothing about the oldest.
      const isOldest = before !== undefined || !this.#edge;
      for (let pages = 0, isEmpty = true; isEmpty && pages < PAGES; pages++) {
        const { messages, position, last, oldest } = await channel.history(before ? { before, limit } : { reverse: true, limit });
        if (turn !== this.#turn) return;
        const publications = messages.filter((message) => message.type === "message") as AnyPublication[];
        for (const message of publications) this.#insert(message, position.epoch);
        if (before) this.#room += publications.length;
        isEmpty = false;
        if (!isOldest) continue;
        this.#edge = before = last;
        this.#hasOlder = last !== undefined && last.offset > oldest;
        isEmpty = publications.length === 0 && this.#hasOlder;
      }
      this.#report(false);
      this.#trim();
    } catch (error) {
      if (turn === this.#turn) this.#report(false, error as HauynaError);
    }
  }

  #report(isLoading: boolean, error?: HauynaError): void {
    this.#isLoading = isLoading;
    this.#error = error;
    this.#change();
  }

  async #send(own: Message, channel: AnyChannel): Promise<boolean> {
    this.#change();
    try {
      const position = await channel.publish(own.content, { key: own.key, echo: false });
      // Where it has come back before, this is known; unless that was another one with the same content.
      const key = this.#take(({ key }) => key === own.key)?.key;
      // Before the first connection, nobody knew the user.
      const sent = { ...own, user: this.#client.user ?? own.user, offset: position?.offset };
      // The other lists of this page do not hear of it from the server.
      for (const list of new Set(lists.get(channel)).add(this)) list.#add(sent, position?.epoch, list === this ? key : own.key);
      return true;
    } catch (error) {
      const isGone = !this.#unsent.some(({ key }) => key === own.key);
      const failed: Message = { ...own, status: "failed", error: error as HauynaError };
      // Another one's was taken for it, and has its key.
      if (isGone && UNDONE.test((error as HauynaError).kind)) this.#unsent.push({ ...failed, key: unique() });
      this.#become(failed);
      return false;
    }
  }

  #add(message: Placed, epoch: string | undefined, key: string | undefined): void {
    this.#insert(message, epoch, key);
    this.#trim();
  }

  #insert({ content, user, timestamp, offset }: Placed, epoch: string | undefined, key = this.#key()): void {
    const order = this.#timeline.order(epoch, offset);
    this.#timeline.insert(order, { kind: "message", key, status: "sent", content, user, timestamp, offset });
  }

  /** Takes the first own message of which this holds out of those without an answer. */
  #take(is: (own: Message) => boolean): Message | undefined {
    const at = this.#unsent.findIndex(is);
    return at < 0 ? undefined : this.#unsent.splice(at, 1)[0];
  }

  #become(own: Message): void {
    this.#unsent = this.#unsent.map((other) => (other.key === own.key ? own : other));
    this.#change();
  }

  #trim(): void {
    // Else there would be a hole behind the page that is on its way.
    const edge = this.#isLoading ? undefined : this.#timeline.trim(this.#room);
    if (edge) {
      this.#edge = edge;
      this.#hasOlder = true;
    }
    this.#change();
  }

  #key(): string {
    return `${++this.#count}`;
  }

  #change(): void {
    this.#state = undefined;
    this.#tell();
  }
}

function text(content: unknown): string | undefined {
  try {
    return JSON.stringify(content);
  } catch {
    return undefined;
  }
}

/** What it is now: an application may go on changing what it has published, as the fields of a form. */
function snapshot(content: unknown): unknown {
  try {
    return copy(content);
  } catch {
    // Without an end: it will be refused.
    return content;
  }
}

function copy(content: unknown): unknown {
  if (Array.isArray(content)) return content.map(copy);
  if (Object.getPrototypeOf(content ?? 0) !== Object.prototype) return content;
  return Object.fromEntries(Object.entries(content as object).map(([name, value]) => [name, copy(value)]));
}

/** The lists of each channel that are listened to. */
const lists = /* @__PURE__ */ new WeakMap<AnyChannel, Set<List>>();
/** With one of these, it was certainly not published. */
const UNDONE = /^(refused|invalid|expired|not_connected|outbox_full|closed|gave_up)$/;

/** A key that no other client has. React Native has no `crypto`. */
function unique(): string {
  const random = () => globalThis.crypto?.getRandomValues(new Uint32Array(1))[0] ?? Math.random() * 2 ** 32;
  return [random(), random(), random(), random()].map((part) => part.toString(36)).join("-");
}
