// What a page and the shared worker say to each other over a port: frames of `hauyna.v1`, by socket, and what is about the
// page itself.

import type { RetryTerms } from "hauyna";

/** From a page to the worker. */
export type FromPage =
  /** The page is there. It holds the lock of this name as long as it lives; without one it says `alive` now and then. */
  | { readonly say: "hello"; readonly lock: string | undefined; readonly settings: Settings }
  | { readonly say: "alive" }
  | { readonly say: "open"; readonly socket: number; readonly protocol: string }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  | { readonly say: "close"; readonly socket: number }
  /** The credentials that the worker has asked for; with none where getting them failed. */
  | { readonly say: "token"; readonly id: number; readonly token: string | undefined };

/** From the worker to a page. */
export type FromWorker =
  | { readonly say: "opened"; readonly socket: number }
  | { readonly say: "frame"; readonly socket: number; readonly frame: string | Uint8Array }
  | { readonly say: "closed"; readonly socket: number; readonly code: number; readonly reason: string }
  /** Whether the worker is connected to the server. */
  | { readonly say: "network"; readonly isThere: boolean }
  | { readonly say: "token?"; readonly id: number; readonly isRefresh: boolean };

/** How the worker connects: as the first page says. */
export interface Settings {
  readonly url: string;
  readonly hasToken: boolean;
  readonly retry: RetryTerms | undefined;
  readonly timeout: number | undefined;
  readonly connectTimeout: number | undefined;
}
