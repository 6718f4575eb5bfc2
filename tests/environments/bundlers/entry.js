// What an application's bundle has: the client by its name, and the scenario. The page reads `hauynaResult`.

import * as hauyna from "hauyna";
import { scenario } from "../support/scenario.cjs";

globalThis.hauynaResult = scenario(hauyna, "/live");
