// The close codes of `hauyna.v1` with their names. What the client itself needs stands alone, so that a bundler leaves
// out the table where nobody asks for it.

export const NORMAL = 1000;
export const MESSAGE_TOO_BIG = 1009;
export const REPLACED = 3013;
export const INVALID_TOKEN = 3500;
export const BAD_REQUEST = 3501;
export const PERMISSION_DENIED = 3507;

/** Close codes with a name; what follows from a code is its range alone, see `shouldReconnect`. */
export const closeCodes = {
  normal: 1000,
  goingAway: 1001,
  messageTooBig: 1009,
  shutdown: 3000,
  drain: 3001,
  expired: 3005,
  slowConsumer: 3008,
  writeFailed: 3009,
  positionLost: 3010,
  forcedReconnect: 3011,
  heartbeatTimeout: 3012,
  replaced: 3013,
  invalidToken: 3500,
  badRequest: 3501,
  notAuthenticated: 3502,
  disconnected: 3503,
  connectionLimit: 3504,
  revoked: 3505,
  permissionDenied: 3507,
  tooManyErrors: 3509,
} as const;
