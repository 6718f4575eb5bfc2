// What a page and the shared worker say to each other over a port: frames of `hauyna.v1`, by socket, and what is about the
// page itself.

import type { RetryTerms } from "hauyna";

/** Changes when pages and workers of different versions of this file would misunderstand each other. */
export const VERSION = 1;

/** From a page to the worker. The first message is `hello`. */
export type FromPage =
  /** The page is there. It holds the lock of this name as long as it lives; without one, `alive` is all that tells so. */
  | { readonly say: "hello"; readonly version: number; readonly lock: string | undefined; readonly settings: Settings }
  | { readonly say: "alive" }
  /** The page ends, is put into the browser's cache, or connects by itself from now on. */
  | { readonly say: "bye" }
  /** The page is looked at: a connection that waits for its next attempt need not wait. */
  | { readonly say: "retry" }
  | { readonly say: "open"; readonly socket: number }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  /**
   * Somebody else may have signed in: the page shows its credentials before it has another session, even where no socket has this
   * number. With 0: the page's client is closed, and no socket will follow unless it is told to connect.
   */
  | { readonly say: "close"; readonly socket: number }
  /** The credentials that the worker has asked for. */
  | { readonly say: "token"; readonly id: number; readonly token: string | undefined; readonly hasFailed: boolean };

/** From the worker to a page. */
export type FromWorker =
  /** The answer to `hello`. The worker holds the lock of this name as long as it lives, where there are locks. */
  | { readonly say: "welcome"; readonly lock: string | undefined }
  /** The answer to `alive`. */
  | { readonly say: "alive" }
  | { readonly say: "opened"; readonly socket: number }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  | { readonly say: "closed"; readonly socket: number; readonly code: number; readonly reason: string }
  /** Whether the worker is connected to the server. */
  | { readonly say: "network"; readonly isThere: boolean }
  | { readonly say: "token?"; readonly id: number; readonly isRefresh: boolean }
  /** The worker took the page for gone, and knows nothing of it: it has to say `hello` again. */
  | { readonly say: "gone" }
  /** The page cannot share the worker's connection, and needs a socket of its own. */
  | { readonly say: "alone" };

/** How the worker connects: as the first page says. Pages of another address or encoding have another connection. */
export interface Settings {
  readonly url: string;
  readonly protocol: string;
  readonly hasToken: boolean;
  readonly retry: RetryTerms | undefined;
  readonly timeout: number | undefined;
  readonly connectTimeout: number | undefined;
}
