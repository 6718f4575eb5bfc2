// What the tests share: installing an environment's packages, giving it the packed client, running its
// programs.

import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What every environment prints or returns after the scenario. */
export const EXPECTED = "connected as ana, heard hello, published at 2, closed";

/** Installs the environment's pinned packages, unless they are there, and the packed client. Returns its folder. */
export function prepare(name) {
  const folder = join(root, name);
  const modified = (file) => (existsSync(join(folder, file)) ? statSync(join(folder, file)).mtimeMs : -1);
  if (existsSync(join(folder, "package.json")) && modified("node_modules/.package-lock.json") < modified("package-lock.json")) {
    const words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error"];
    execFileSync("npm", words, { cwd: folder, stdio: ["ignore", "ignore", "inherit"], timeout: 300_000 });
  }
  const place = join(folder, "node_modules/hauyna");
  rmSync(place, { recursive: true, force: true });
  mkdirSync(join(folder, "node_modules"), { recursive: true });
  cpSync(join(root, "build/hauyna"), place, { recursive: true });
  return folder;
}

/** Runs a program of the environment and returns what it wrote; fails with all of that where the program fails. */
export async function run(folder, program, words = [], env = {}) {
  const options = { cwd: folder, timeout: 600_000, maxBuffer: 1 << 24, env: { ...process.env, CI: "1", NO_COLOR: "1", ...env } };
  try {
    const { stdout, stderr } = await promisify(execFile)(program, words, options);
    return stdout + stderr;
  } catch (error) {
    throw new Error(`${program} ${words.join(" ")} failed: ${error.message}\n${error.stdout}\n${error.stderr}`);
  }
}

/** The path of a program that the environment's packages bring. */
export function bin(folder, name) {
  return join(folder, "node_modules/.bin", name);
}
