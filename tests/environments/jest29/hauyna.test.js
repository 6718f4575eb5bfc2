// Runs in the environments `node` and `jsdom`; the command line says which.

const { scenario } = require("../support/scenario.cjs");

test("the client is imported and runs without TextEncoder", async () => {
  delete globalThis.TextEncoder;
  delete globalThis.TextDecoder;
  const hauyna = require("hauyna");
  expect(await scenario(hauyna)).toBe("connected as ana, heard hello, published at 2, closed");
});

test("the client can be made with a relative address", () => {
  const { Client } = require("hauyna");
  expect(new Client("/live").state.name).toBe("closed");
});
