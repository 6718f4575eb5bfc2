// The Vue bindings in Chromium, by their example.

import { testExample, testHotReload } from "./bindings.mjs";

testExample("vue");
testHotReload("vue", "vue");
