// The close codes of `hauyna.v1` with their names. What the client itself needs stands alone, so that a bundler leaves
// out the table where nobody asks for it.

export const NORMAL = 1000;
export const MESSAGE_TOO_BIG = 1009;
export const REPLACED = 3013;
export const INVALID_TOKEN = 3500;
export const BAD_REQUEST = 3501;
export const PERMISSION_DENIED = 3507;

/** Close codes with a name; what follows from a code is its range alone, see `comesBack`. */
export const closeCodes = {
  normal: 1000,
  going_away: 1001,
  message_too_big: 1009,
  shutdown: 3000,
  drain: 3001,
  expired: 3005,
  slow_consumer: 3008,
  write_failed: 3009,
  position_lost: 3010,
  forced_reconnect: 3011,
  heartbeat_timeout: 3012,
  replaced: 3013,
  invalid_token: 3500,
  bad_request: 3501,
  not_authenticated: 3502,
  disconnected: 3503,
  connection_limit: 3504,
  revoked: 3505,
  permission_denied: 3507,
  too_many_errors: 3509,
} as const;
