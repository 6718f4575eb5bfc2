// The Vue bindings in Chromium, by their example.

import { testExample } from "./bindings.mjs";

testExample("vue");
