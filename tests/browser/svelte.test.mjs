// The Svelte bindings in Chromium, by their example.

import { testExample } from "./bindings.mjs";

testExample("svelte");
