// The sessions of a fake server: the subscriptions of clients, which survive a lost connection for a while.

import { closeCodes } from "hauyna";
import type { FakeChannel } from "./testing-channel.js";
import type { FakeClock } from "./testing-clock.js";
import type { FakeConnection, WireMessage } from "./testing-socket.js";

interface FakeSession {
  readonly user: string;
  /** The metadata of each subscription. */
  readonly channels: Map<string, unknown>;
  connection: FakeConnection;
  /**
   * The tokens that resume the session: the newest last, and the previous one until the client has received
   * the newest.
   */
  readonly tokens: string[];
  /** Cancels the end of a lost session. */
  cancelEnd: () => void;
}

/** All sessions, and the connections that have one. */
export class FakeSessions {
  readonly #clock: FakeClock;
  readonly #channel: (name: string) => FakeChannel<any, any>;
  readonly #sessions = new Map<string, FakeSession>();
  readonly #connections = new Map<FakeConnection, FakeSession>();
  #tokenCount = 0;

  constructor(clock: FakeClock, channel: (name: string) => FakeChannel<any, any>) {
    this.#clock = clock;
    this.#channel = channel;
  }

  get connections(): readonly FakeConnection[] {
    return [...this.#connections.keys()];
  }

  /** Returns the subscriptions of a connection, with the metadata of each. */
  channelsOf(connection: FakeConnection): Map<string, unknown> | undefined {
    return this.#connections.get(connection)?.channels;
  }

  /** Handles a new connection. A client that resumes sends its positions first. */
  opened(connection: FakeConnection): void {
    if (!this.#sessionResumedBy(connection)) return this.#startSession(connection);
    this.#clock.afterUnref(POSITIONS_TIMEOUT, () => connection.isOpen && !connection.session && this.#startSession(connection, {}));
  }

  /** Handles a message. Returns whether it concerns only the session. */
  received(connection: FakeConnection, { type, id, positions }: WireMessage): boolean {
    const session = connection.session as FakeSession | undefined;
    // The client has received its newest token.
    if (session) this.#forgetTokens(session, 1);
    else this.#startSession(connection, type === "resume" ? ((positions as Record<string, never> | undefined) ?? {}) : {});
    if (type === "resume" && id !== undefined) connection.send({ type: "ack", id });
    return type === "resume";
  }

  /**
   * Handles the loss of a connection. With `isOver` its client does not return, or not with this session.
   * Returns false if the connection had no session.
   */
  lost(connection: FakeConnection, isOver: boolean): boolean {
    const session = this.#connections.get(connection);
    if (!this.#connections.delete(connection) || !session) return false;
    for (const name of session.channels.keys()) this.#channel(name).remove(connection, !isOver);
    const end = () => {
      for (const name of [...session.channels.keys()]) this.#endSubscription(session, name);
      this.#forgetTokens(session, 0);
    };
    if (isOver) this.#forgetTokens(session, 0);
    else session.cancelEnd = this.#clock.afterUnref(SESSION_WINDOW, end);
    return true;
  }

  /** Ends the subscriptions of a user, or of all, including those of lost connections. */
  unsubscribe(name: string, user: string | undefined): void {
    for (const session of this.#sessions.values()) if ((user ?? session.user) === session.user) this.#endSubscription(session, name);
  }

  #sessionResumedBy(connection: FakeConnection): FakeSession | undefined {
    const session = this.#sessions.get(connection.protocolSuffix("hauyna.resume.") ?? "");
    return session?.user === connection.user ? session : undefined;
  }

  /** Sends `session`. Only a resumed session has positions. */
  #startSession(connection: FakeConnection, positions?: Record<string, never>): void {
    const resumed = positions && this.#sessionResumedBy(connection);
    const newSession: FakeSession = { user: connection.user, channels: new Map(), connection, tokens: [], cancelEnd: () => {} };
    const session = resumed ?? newSession;
    const before = session.connection;
    session.connection = connection;
    session.cancelEnd();
    connection.session = session;
    if (before !== connection && before.isOpen) before.end(closeCodes.replaced, "replaced by a resume");
    this.#connections.delete(before);
    const follow: (() => void)[] = [];
    const entries = [...session.channels].map(([name, metadata]) => {
      const channel = this.#channel(name);
      const added = channel.add(connection, metadata, positions?.[name], before);
      follow.push(added.follow);
      const isUnknown = added.subscription.recoverable && !positions?.[name];
      return { ...added.subscription, ...(isUnknown && { recovered: false, reason: "unknown_position" }) };
    });
    const token = `fake-session-${++this.#tokenCount}`;
    session.tokens.push(token);
    this.#sessions.set(token, session);
    this.#connections.set(connection, session);
    const { id, user } = connection;
    const resume = { token, window: SESSION_WINDOW };
    const subscriptions = resumed && { subscriptions: entries };
    connection.send({ type: "session", connection_id: id, user, resumed: resumed !== undefined, resume, ...subscriptions });
    for (const next of follow) next();
  }

  /** Ends a subscription of a session. */
  #endSubscription(session: FakeSession, name: string): void {
    if (session.channels.delete(name)) this.#channel(name).remove(session.connection);
  }

  #forgetTokens(session: FakeSession, kept: number): void {
    for (const token of session.tokens.splice(0, session.tokens.length - kept)) this.#sessions.delete(token);
  }
}

/**
 * Milliseconds: how long the session of a lost connection is kept, and how long a client may take to send its
 * positions.
 */
const SESSION_WINDOW = 60_000;
const POSITIONS_TIMEOUT = 5_000;
