// The built package in every installed runtime: each imports it by its name and makes a round trip.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Running, startServer } from "./server.js";

const folder = fileURLToPath(new URL("..", import.meta.url));
const path = (process.env["PATH"] ?? "").split(delimiter);
const find = (name: string) => path.map((place) => join(place, name)).find(existsSync);
const isBuilt = existsSync(join(folder, "dist/node.js"));

let server: Running;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server?.stop());

describe.each([
  ["node", []],
  ["bun", ["run"]],
  ["deno", ["run", "--allow-net", "--allow-read", "--allow-env"]],
])("%s", (name, words) => {
  const program = name === "node" ? process.execPath : find(name);

  test.skipIf(!program || !isBuilt)("connects, publishes and receives, and then exits by itself", async () => {
    const address = `ws://127.0.0.1:${server.port}/chat?user_id=${name}`;
    const { stdout } = await promisify(execFile)(program as string, [...words, "tests/smoke.mjs", address], { cwd: folder, timeout: 15_000 });
    expect(stdout.trim().split("\n")).toEqual([`${name}: ¡hola!`, `${name}: ¡hola!`]);
  });
});

test.skipIf(!isBuilt)("the package can be loaded as CommonJS", async () => {
  const script = `const { Client, json } = require("hauyna"); console.log(typeof Client, json.protocol)`;
  const { stdout } = await promisify(execFile)(process.execPath, ["-e", script], { cwd: folder });
  expect(stdout.trim()).toBe("function hauyna.v1.json");
});
