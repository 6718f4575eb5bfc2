// The credentials that a client has shown, from which it concludes whether its user has changed: requests of
// one user must not be sent as the next one.

/** The credentials that were shown last. */
export interface ShownCredentials {
  /** Whether there were none. */
  isGuest: boolean;
  /** The number of the last request before they were available. */
  number: number;
  token?: string | undefined;
  /**
   * Whether the client was closed, and has had neither credentials nor a session since. Earlier requests have
   * failed, and later ones belong to the next credentials.
   */
  isNew: boolean;
}

/**
 * Notes the credentials that are now available. They may have waited for the next user to sign in, after the
 * request `last`.
 */
export function noteCredentials(shown: ShownCredentials, token: string | undefined, last: number): void {
  shown.isGuest = token === undefined;
  // The same credentials belong to the same user.
  if (!shown.isNew && token !== shown.token) shown.number = last;
  shown.token = token;
  shown.isNew &&= token === undefined;
}
