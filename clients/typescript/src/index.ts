// The client of hauyna, for browsers and whatever else has a WebSocket of its own.

export { closeCodes } from "./close-codes.js";
export { msgpack } from "./codec.js";
export * from "./page.js";
