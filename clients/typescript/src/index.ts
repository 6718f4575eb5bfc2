// The client of hauyna, for browsers and whatever else has a WebSocket of its own.

export { msgpack } from "./codec.js";
export * from "./page.js";
