// React Native, without a device: the packed client in a context that has what its runtime has, with React
// Native's own URL class, taken from its package. No crypto, no document, no location; a TextDecoder without
// options, or none.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import vm from "node:vm";
import { EXPECTED, prepare } from "./support/environment.mjs";

const VERSION = "0.81.5";
const folder = prepare("react-native");
const flow = createRequire(join(folder, "package.json"))("flow-remove-types");

/** Downloads React Native's package, and unpacks its URL class alone: the whole of it has 200 MB of dependencies. */
function source(name) {
  const build = join(folder, "build");
  const file = join(build, "package/Libraries/Blob", name);
  if (!existsSync(file)) {
    mkdirSync(build, { recursive: true });
    const words = ["pack", `react-native@${VERSION}`, "--silent", "--prefer-offline", "--pack-destination", build];
    const archive = execFileSync("npm", words, { encoding: "utf8", cwd: build, timeout: 120_000 }).trim();
    execFileSync("tar", ["-xzf", join(build, archive), "-C", build, "package/Libraries/Blob"]);
  }
  return readFileSync(file, "utf8");
}

/** React Native's URL class; `import` and `export` are taken away, and the native module is one without blobs. */
function nativeUrl(context) {
  const plain = (name) =>
    flow(source(name), { all: true })
      .toString()
      .replace(/^import .*$/gm, "")
      .replace(/^export \{.*$/gm, "")
      .replace(/^export /gm, "");
  const script = `${plain("URLSearchParams.js")}\nconst NativeBlobModule = null;\n${plain("URL.js")}\nURL;`;
  return vm.runInContext(`(() => { ${script.replace(/URL;$/, "return URL;")} })()`, context);
}

/** A context like React Native's, and the client in it, as Metro resolves it: by `main`, or by the `default` condition. */
function device(globals) {
  const context = vm.createContext({ setTimeout, clearTimeout, console, navigator: { product: "ReactNative" }, ...globals });
  context.globalThis = vm.runInContext("globalThis", context);
  context.window = context.globalThis;
  context.URL = nativeUrl(context);
  const load = (file) => {
    const module = { exports: {} };
    const wrapped = `(function (module, exports, require) { ${readFileSync(file, "utf8")}\n})`;
    vm.runInContext(wrapped, context)(module, module.exports, () => assert.fail("a module is required"));
    return module.exports;
  };
  const { main } = JSON.parse(readFileSync(join(folder, "node_modules/hauyna/package.json"), "utf8"));
  const hauyna = load(join(folder, "node_modules/hauyna", main));
  return { context, hauyna, ...load(new URL("support/scenario.cjs", import.meta.url).pathname) };
}

/** The TextDecoder of old Hermes: it takes no options. */
class OldTextDecoder {
  constructor(label, options) {
    if (options !== undefined && Object.keys(options).length > 0) throw new TypeError("options are not supported");
  }
  decode(bytes) {
    return Buffer.from(bytes).toString();
  }
}

test("React Native: the scenario runs", async () => {
  const { hauyna, scenario } = device({});
  assert.equal(await scenario(hauyna), EXPECTED);
});

test("React Native: addresses reach the socket as they were given", async () => {
  const { hauyna, fakeSocket } = device({});
  for (const address of ["wss://shop.example/live", "ws://10.0.2.2:8080/chat?user_id=ana", "https://shop.example/live"]) {
    const opened = [];
    const client = new hauyna.Client(address, { WebSocket: fakeSocket(opened) });
    await client.connect();
    client.close();
    assert.deepEqual(opened, [address.replace("http", "ws")]);
  }
});

test("React Native: a relative address ends the attempt, and says why", async () => {
  const { hauyna, fakeSocket } = device({});
  const client = new hauyna.Client("/live", { WebSocket: fakeSocket([]) });
  await assert.rejects(client.connect(), { message: "the address is not a URL" });
});

for (const [name, globals] of [["of old Hermes", { TextDecoder: OldTextDecoder, TextEncoder }], ["that is current", { TextDecoder, TextEncoder }]]) {
  test(`React Native: MessagePack with a TextDecoder ${name}`, () => {
    const { msgpack } = device(globals).hauyna;
    const message = { type: "message", content: { text: "¡hola! 🎉", long: "x".repeat(500), n: [1, -7, 2.5, null] } };
    const { buffer } = msgpack.encode(message);
    assert.equal(JSON.stringify(msgpack.decode(buffer)), JSON.stringify(message));
  });
}
