// MessagePack for pages without a bundler. It is a file of its own, because few pages need it.

export { msgpack } from "./codec.js";
