// The client of hauyna, for browsers and every runtime that has a WebSocket.

export { closeCodes } from "./close-codes.js";
export { msgpack } from "./codec.js";
export * from "./page.js";
