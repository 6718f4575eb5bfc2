// Whose credentials a client has shown, as far as it can tell: what one user has asked is not sent as the next
// one's.

/** The credentials that were shown last. */
export interface Shown {
  /** There were none. */
  isGuest: boolean;
  /** The last request before they were there. */
  number: number;
  token?: string | undefined;
  /**
   * The client was closed, and has had neither credentials nor a session since: what was asked before has failed,
   * and what follows is for the next credentials.
   */
  isNew: boolean;
}

/** Takes the credentials that are there now. They may have waited for the next user to sign in, after `last`. */
export function show(shown: Shown, token: string | undefined, last: number): void {
  shown.isGuest = token === undefined;
  // The same credentials are the same user's, however often they are asked for.
  if (!shown.isNew && token !== shown.token) shown.number = last;
  shown.token = token;
  shown.isNew &&= token === undefined;
}
