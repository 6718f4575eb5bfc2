// The scenario as an ES module. Prints what happened.

import * as hauyna from "hauyna";
import { scenario } from "../support/scenario.cjs";

console.log(await scenario(hauyna));
