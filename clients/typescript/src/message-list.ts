// The list of a channel's messages: its history, live and recovered messages, and this client's own messages
// from the moment of `publish`. The list is ordered by epoch and offset, contains each message once, and is
// bounded. A gap entry stands where messages may be missing.

import type {
  AnyChannel,
  AnyClient,
  Channel,
  ChannelState,
  ContentOf,
  Gap,
  HauynaError,
  Position,
  Publication,
  State,
  Unsubscribe,
} from "hauyna";
import { type Store, createStore, endAll, nothing } from "./store.js";
import { OrderedEntries } from "./ordered-entries.js";

/** A message in the list. */
export interface ListedMessage<Content> {
  readonly kind: "message";
  /** Identifies the entry as long as it is in the list. */
  readonly key: string;
  /**
   * `pending`: the server has not answered yet. `failed`: the message was not published, as far as is known;
   * see `error`.
   */
  readonly status: "sent" | "pending" | "failed";
  readonly content: Content;
  /** The user who published it; undefined if the application published it. */
  readonly user?: string | undefined;
  /** Milliseconds since the Unix epoch; by the local clock if this client published the message. */
  readonly timestamp: number;
  /** The message's number, if the channel numbers its publications. */
  readonly offset?: number | undefined;
  /** Why the publication failed. */
  readonly error?: HauynaError | undefined;
}

/** A place at which messages may be missing. */
export interface ListedGap {
  readonly kind: "gap";
  readonly key: string;
  readonly gap: Gap;
}

/** The content of a list at one moment. */
export interface MessagesState<Content> {
  /** The entries, oldest first. */
  readonly messages: readonly (ListedMessage<Content> | ListedGap)[];
  /** Whether the server keeps older messages, which {@link MessageActions.loadOlder} loads. */
  readonly hasOlder: boolean;
  /** Whether a page of the history is being loaded. */
  readonly isLoading: boolean;
  /** Why there is no subscription, or why the history could not be loaded. */
  readonly error: HauynaError | undefined;
}

/** The actions of a list. Their promises are never rejected. */
export interface MessageActions<Content> {
  /**
   * Publishes a message, and shows it at once. Resolves with true if the server accepted it, and with false
   * if it failed.
   */
  publish(content: Content): Promise<boolean>;
  /**
   * Publishes a failed message again. It is published only once, even if the first attempt was successful.
   */
  retry(key: string): Promise<boolean>;
  /** Removes a failed message from the list. */
  discard(key: string): void;
  /** Loads the page of the history before the oldest message. */
  loadOlder(): Promise<void>;
}

/** The options of a list. */
export interface MessagesOptions {
  /** Messages in one page of the history. Default: 50. */
  readonly pageSize?: number | undefined;
  /**
   * The maximum number of messages, not counting those that `loadOlder` has loaded. The oldest are dropped.
   * Default: 500.
   */
  readonly max?: number | undefined;
}

type Message = ListedMessage<any>;
type AnyPublication = Publication<any>;
type SentFields = Pick<Message, "content" | "user" | "timestamp" | "offset">;

/**
 * Creates the list of a channel's messages, which is updated while it has listeners. It does not subscribe to
 * the channel; something else has to.
 */
export function createMessageList<C>(
  client: AnyClient,
  channel: Channel<C, any> | null,
  options: MessagesOptions = {},
): Store<MessagesState<ContentOf<C>>> & MessageActions<ContentOf<C>> {
  const list = new MessageList(client, channel, options);
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

/** The maximum number of pages that one call loads while no page contains a publication. */
const MAX_EMPTY_PAGES = 20;

class MessageList {
  readonly #client: AnyClient;
  readonly #channel: AnyChannel | null;
  readonly #pageSize: number;
  readonly #max: number;
  #entries = new OrderedEntries();
  /** The maximum number of entries: `max`, and those that `loadOlder` has loaded. */
  #capacity = 0;
  /** This client's messages without an answer, and those that failed. They follow all others. */
  #unsent: Message[] = [];
  #state: MessagesState<any> | undefined;
  #isLoading: boolean;
  #error: HauynaError | undefined;
  /** The position before which the next older page ends, and whether there is one. */
  #oldestLoaded: Position | undefined;
  #hasOlder = false;
  #keyCount = 0;
  /** Increases when pending answers become obsolete. Answers of an earlier generation are ignored. */
  #generation = 0;
  #notify = nothing;

  constructor(client: AnyClient, channel: AnyChannel | null, { pageSize = 50, max = 500 }: MessagesOptions) {
    this.#client = client;
    this.#channel = channel;
    this.#pageSize = pageSize;
    this.#max = this.#capacity = max;
    this.#isLoading = channel !== null;
  }

  state(): MessagesState<any> {
    return (this.#state ??= {
      messages: [...this.#entries.rows.map((row) => row.entry), ...this.#unsent],
      hasOlder: this.#hasOlder,
      isLoading: this.#isLoading,
      error: this.#error,
    });
  }

  start(changed: () => void): Unsubscribe {
    const channel = this.#channel;
    if (!channel) return nothing;
    this.#notify = changed;
    const activeLists = activeListsOf.get(channel) ?? new Set();
    activeListsOf.set(channel, activeLists.add(this));
    let isNew = true;
    let isFirst = true;
    const followChannel = () => {
      const { name, error }: ChannelState = channel.state;
      if (name === "unsubscribed") {
        isNew = true;
        this.#generation++;
        // After the subscription has ended, no page arrives.
        this.#setStatus(isFirst && !error, error);
      } else if (name === "subscribed" && isNew) {
        isNew = isFirst = false;
        this.#restart(channel);
      }
    };
    // After the client was closed permanently, no page arrives until it is connected again.
    const followClient = (state: State) => {
      if (state.name !== "closed") {
        if (isNew && this.#error && this.#error.kind !== "refused") this.#setStatus(true);
      } else if (this.#isLoading && state.code !== undefined) this.#setStatus(false, state.error);
    };
    followChannel();
    followClient(this.#client.state);
    const removeListeners = endAll(
      this.#client.onState(followClient),
      channel.on("message", (message) => this.#receive(message, channel)),
      channel.onState(followChannel),
      channel.onGap((gap) => {
        const isContinued = this.#entries.addGap(gap.to?.epoch, { kind: "gap", key: this.#nextKey(), gap });
        if (!isContinued) this.#oldestLoaded = undefined;
        this.#loadPages(channel);
      }),
    );
    return () => {
      removeListeners();
      activeLists.delete(this);
      this.#notify = nothing;
    };
  }

  async publish(content: unknown): Promise<boolean> {
    if (!this.#channel) return false;
    const { user, environment } = this.#client;
    const timestamp = environment.now();
    const message: Message = { kind: "message", key: unique(), status: "pending", content: snapshot(content), user, timestamp };
    this.#unsent.push(message);
    return this.#publishUnsent(message, this.#channel);
  }

  async retry(key: string): Promise<boolean> {
    const message = this.#unsent.find((one) => one.key === key && one.status === "failed");
    if (!message || !this.#channel) return false;
    this.#replaceUnsent({ ...message, status: "pending", error: undefined });
    return this.#publishUnsent(message, this.#channel);
  }

  discard(key: string): void {
    this.#unsent = this.#unsent.filter((own) => own.key !== key || own.status === "pending");
    this.#invalidate();
  }

  async loadOlder(): Promise<void> {
    const channel = this.#channel;
    if (!channel || channel.state.name === "unsubscribed" || this.#isLoading || !(this.#hasOlder || this.#error)) return;
    // The stream may have continued under another epoch.
    await this.#loadPages(
      channel,
      this.#oldestLoaded && { ...this.#oldestLoaded, epoch: channel.position?.epoch ?? this.#oldestLoaded.epoch },
    );
  }

  /** Starts an empty list for a new subscription, which is not connected to the previous messages. */
  #restart(channel: AnyChannel): void {
    this.#entries = new OrderedEntries();
    this.#capacity = this.#max;
    this.#oldestLoaded = undefined;
    this.#hasOlder = false;
    void this.#loadPages(channel);
  }

  #receive(message: AnyPublication, channel: AnyChannel): void {
    const { content, user, offset } = message;
    const isSame = (other: Message) =>
      !NOT_PUBLISHED.test(other.error?.kind ?? "") && encodedText(other.content) === encodedText(content);
    // After a reconnect, this client's message may arrive before the answer to its publication.
    const ownMessage = offset !== undefined && user === this.#client.user ? this.#removeUnsent(isSame) : undefined;
    this.#addSent(message, channel.position?.epoch, ownMessage?.key);
  }

  /**
   * Loads the page before this position, or the newest page. Continues with older pages while they contain no
   * publications.
   */
  async #loadPages(channel: AnyChannel, before?: Position): Promise<void> {
    const generation = ++this.#generation;
    this.#error = undefined;
    // Without a position the channel has no history.
    this.#isLoading = channel.position !== undefined;
    this.#invalidate();
    if (!this.#isLoading) return this.#dropOldest();
    try {
      const limit = this.#pageSize;
      // Loading the newest page again after a gap does not change where the oldest page ends.
      const isOldest = before !== undefined || !this.#oldestLoaded;
      for (let pages = 0, isEmpty = true; isEmpty && pages < MAX_EMPTY_PAGES; pages++) {
        const { messages, position, last, oldest } = await channel.history(before ? { before, limit } : { reverse: true, limit });
        if (generation !== this.#generation) return;
        const publications = messages.filter((message) => message.type === "message") as AnyPublication[];
        for (const message of publications) this.#insertSent(message, position.epoch);
        if (before) this.#capacity += publications.length;
        isEmpty = false;
        if (!isOldest) continue;
        this.#oldestLoaded = before = last;
        this.#hasOlder = last !== undefined && last.offset > oldest;
        isEmpty = publications.length === 0 && this.#hasOlder;
      }
      this.#setStatus(false);
      this.#dropOldest();
    } catch (error) {
      if (generation === this.#generation) this.#setStatus(false, error as HauynaError);
    }
  }

  #setStatus(isLoading: boolean, error?: HauynaError): void {
    this.#isLoading = isLoading;
    this.#error = error;
    this.#invalidate();
  }

  async #publishUnsent(message: Message, channel: AnyChannel): Promise<boolean> {
    this.#invalidate();
    try {
      const position = await channel.publish(message.content, { key: message.key, echo: false });
      // If the message has arrived already, it has this key, unless that was another message with the same
      // content.
      const key = this.#removeUnsent(({ key }) => key === message.key)?.key;
      // Before the first connection the user was unknown.
      const sent = { ...message, user: this.#client.user ?? message.user, offset: position?.offset };
      // The server does not echo the message, so the page's other lists of the channel are updated here.
      for (const list of new Set(activeListsOf.get(channel)).add(this)) {
        list.#addSent(sent, position?.epoch, list === this ? key : message.key);
      }
      return true;
    } catch (error) {
      const isGone = !this.#unsent.some(({ key }) => key === message.key);
      const failed: Message = { ...message, status: "failed", error: error as HauynaError };
      // A message of another connection was taken for this one, and has its key.
      if (isGone && NOT_PUBLISHED.test((error as HauynaError).kind)) this.#unsent.push({ ...failed, key: unique() });
      this.#replaceUnsent(failed);
      return false;
    }
  }

  #addSent(message: SentFields, epoch: string | undefined, key: string | undefined): void {
    this.#insertSent(message, epoch, key);
    this.#dropOldest();
  }

  #insertSent({ content, user, timestamp, offset }: SentFields, epoch: string | undefined, key = this.#nextKey()): void {
    const rank = this.#entries.rank(epoch, offset);
    this.#entries.insert(rank, { kind: "message", key, status: "sent", content, user, timestamp, offset });
  }

  /** Removes the first matching message from those without an answer, and returns it. */
  #removeUnsent(isMatch: (message: Message) => boolean): Message | undefined {
    const index = this.#unsent.findIndex(isMatch);
    return index < 0 ? undefined : this.#unsent.splice(index, 1)[0];
  }

  #replaceUnsent(message: Message): void {
    this.#unsent = this.#unsent.map((other) => (other.key === message.key ? message : other));
    this.#invalidate();
  }

  #dropOldest(): void {
    // Dropping entries during a page request would leave a hole behind that page.
    const position = this.#isLoading ? undefined : this.#entries.trim(this.#capacity);
    if (position) {
      this.#oldestLoaded = position;
      this.#hasOlder = true;
    }
    this.#invalidate();
  }

  #nextKey(): string {
    return `${++this.#keyCount}`;
  }

  #invalidate(): void {
    this.#state = undefined;
    this.#notify();
  }
}

function encodedText(content: unknown): string | undefined {
  try {
    return JSON.stringify(content);
  } catch {
    return undefined;
  }
}

/** Copies the content, because an application may continue to change the object that it has published. */
function snapshot(content: unknown): unknown {
  try {
    return copy(content);
  } catch {
    // The content contains itself. Its publication will be refused.
    return content;
  }
}

function copy(content: unknown): unknown {
  if (Array.isArray(content)) return content.map(copy);
  if (Object.getPrototypeOf(content ?? 0) !== Object.prototype) return content;
  return Object.fromEntries(Object.entries(content as object).map(([name, value]) => [name, copy(value)]));
}

/** The active lists of each channel. */
const activeListsOf = /* @__PURE__ */ new WeakMap<AnyChannel, Set<MessageList>>();
/** The kinds of error after which the message was certainly not published. */
const NOT_PUBLISHED = /^(refused|invalid|expired|not_connected|outbox_full|closed|gave_up)$/;

/** Returns a key that no other client has. React Native has no `crypto`. */
function unique(): string {
  const random = () => globalThis.crypto?.getRandomValues(new Uint32Array(1))[0] ?? Math.random() * 2 ** 32;
  return [random(), random(), random(), random()].map((part) => part.toString(36)).join("-");
}
