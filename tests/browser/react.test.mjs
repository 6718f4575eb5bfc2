// The React bindings in Chromium, by their example in StrictMode: with React 19, and with React 18.

import { describe } from "node:test";
import { fileURLToPath } from "node:url";
import { testExample, testHotReload } from "./bindings.mjs";

const folder = fileURLToPath(new URL("react-18/node_modules/", import.meta.url));
const alias = [{ find: /^(react|react-dom)(?=$|\/)/, replacement: `${folder}$1` }];

describe("React 19", () => testExample("react", { title: "react 19" }));
describe("React 18", () => testExample("react", { title: "react 18", settings: { resolve: { alias } } }));
testHotReload("react", "tsx");
