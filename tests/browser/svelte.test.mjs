// The Svelte bindings in Chromium, by their example.

import { testExample, testHotReload } from "./bindings.mjs";

testExample("svelte");
testHotReload("svelte", "svelte");
