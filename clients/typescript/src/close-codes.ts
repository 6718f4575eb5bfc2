// The close codes of `hauyna.v1` with their names. The codes that the client itself uses are separate
// constants, so that a bundler removes the table if the application does not use it.

export const NORMAL = 1000;
export const MESSAGE_TOO_BIG = 1009;
export const REPLACED = 3013;
export const INVALID_TOKEN = 3500;
export const BAD_REQUEST = 3501;
export const PERMISSION_DENIED = 3507;

/**
 * The close codes by name. Only the range of a code decides whether a client reconnects, see
 * `shouldReconnect`.
 */
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
