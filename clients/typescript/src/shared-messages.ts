// The messages between a page and the shared worker: frames of `hauyna.v1` by socket, and messages about the
// page itself.

import type { RetryTerms } from "hauyna";

/** Increases when pages and workers of different versions of this file would misunderstand each other. */
export const VERSION = 1;

/** A message from a page to the worker. The first one is `hello`. */
export type FromPage =
  /**
   * Introduces the page. It holds the lock of this name as long as it lives. Without a lock, only `alive`
   * shows that it lives.
   */
  | { readonly say: "hello"; readonly version: number; readonly lock: string | undefined; readonly settings: Settings }
  | { readonly say: "alive" }
  /** The page ends, enters the browser's cache, or connects by itself from now on. */
  | { readonly say: "bye" }
  /** The page has become visible: the worker starts a scheduled attempt at once. */
  | { readonly say: "retry" }
  | { readonly say: "open"; readonly socket: number }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  /**
   * Closes a socket. Another user may have signed in, so the page has to show its credentials before its next
   * session, even if no socket has this number. 0: the page's client is closed, and opens no socket until the
   * application asks for it.
   */
  | { readonly say: "close"; readonly socket: number }
  /** The credentials that the worker has asked for. */
  | { readonly say: "token"; readonly id: number; readonly token: string | undefined; readonly hasFailed: boolean };

/** A message from the worker to a page. */
export type FromWorker =
  /**
   * The answer to `hello`. The worker holds the lock of this name as long as it lives, if there are locks.
   */
  | { readonly say: "welcome"; readonly lock: string | undefined }
  /** The answer to `alive`. */
  | { readonly say: "alive" }
  | { readonly say: "opened"; readonly socket: number }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  | { readonly say: "closed"; readonly socket: number; readonly code: number; readonly reason: string }
  /** Whether the worker is connected to the server. */
  | { readonly say: "network"; readonly isThere: boolean }
  | { readonly say: "token?"; readonly id: number; readonly isRefresh: boolean }
  /** The worker has forgotten the page, because it seemed gone. The page has to say `hello` again. */
  | { readonly say: "gone" }
  /** The page cannot share the worker's connection, and needs its own socket. */
  | { readonly say: "alone" };

/**
 * How the worker connects, as the first page states it. Pages with another address or encoding have another
 * connection.
 */
export interface Settings {
  readonly url: string;
  readonly protocol: string;
  readonly hasToken: boolean;
  readonly retry: RetryTerms | undefined;
  readonly timeout: number | undefined;
  readonly connectTimeout: number | undefined;
}
