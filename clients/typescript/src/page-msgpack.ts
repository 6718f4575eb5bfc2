// MessagePack for pages that have no bundler, in a file of its own: few pages need it.

export { msgpack } from "./codec.js";
