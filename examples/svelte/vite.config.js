import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// The server of `cargo run --release`. The page and its WebSocket come from one origin, that of Vite: the server lets
// pages of its own host in, and the host that it sees is Vite's, unless `changeOrigin` is set.
const proxy = { "/chat": { target: process.env.HAUYNA ?? "http://127.0.0.1:8080", ws: true } };

export default defineConfig({
  plugins: [svelte()],
  server: { proxy, fs: { allow: ["../.."] } },
  preview: { proxy },
  // The client is linked from this repository, where its own tests have another copy of Svelte.
  resolve: { dedupe: ["svelte"] },
});
