// Packs the built client as `npm publish` would, and unpacks it to build/hauyna. Every environment gets this
// copy.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../../../clients/typescript", import.meta.url));
const build = fileURLToPath(new URL("../build", import.meta.url));

if (!existsSync(join(source, "dist/index.js"))) {
  console.error("clients/typescript has no build: npm ci && npm run build in that folder");
  process.exit(1);
}
rmSync(build, { recursive: true, force: true });
mkdirSync(build, { recursive: true });
const words = ["pack", "--json", "--ignore-scripts", "--pack-destination", build];
const [{ filename }] = JSON.parse(execFileSync("npm", words, { cwd: source, encoding: "utf8" }));
execFileSync("tar", ["-xzf", join(build, filename), "-C", build]);
renameSync(join(build, "package"), join(build, "hauyna"));
