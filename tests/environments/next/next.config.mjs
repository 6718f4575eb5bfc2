// The folder above has locks of other environments: this one is a project of its own.
import { fileURLToPath } from "node:url";

export default { outputFileTracingRoot: fileURLToPath(new URL(".", import.meta.url)), typescript: { ignoreBuildErrors: true } };
