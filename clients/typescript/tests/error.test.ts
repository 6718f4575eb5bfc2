// Errors and their classes, also if the package is loaded twice: as an ES module and as CommonJS.

import { expect, test, vi } from "vitest";
import { HauynaError, ServerError } from "../src/error.js";

const refusal = { type: "error", id: 1, error_type: "rate_limited", message: "no", timestamp: 1, temporary: true } as const;

test("errors are instances of the classes of another copy of the package", async () => {
  vi.resetModules();
  const other = await import("../src/error.js");
  expect(other.HauynaError).not.toBe(HauynaError);
  const closed = new other.HauynaError("closed", "closed");
  const refused = new other.ServerError(refusal as never);
  expect([closed instanceof HauynaError, closed instanceof ServerError, closed instanceof Error]).toEqual([true, false, true]);
  expect([refused instanceof HauynaError, refused instanceof ServerError]).toEqual([true, true]);
});

test("other values are not instances of the error classes", () => {
  for (const value of [undefined, null, "closed", {}, new Error("closed"), { kind: "closed" }]) {
    expect([value instanceof HauynaError, value instanceof ServerError]).toEqual([false, false]);
  }
});

test("an application's subclass matches only its own instances", () => {
  class Mine extends HauynaError {}
  expect(new Mine("closed", "mine")).toBeInstanceOf(Mine);
  expect(new Mine("closed", "mine")).toBeInstanceOf(HauynaError);
  expect(new HauynaError("closed", "not mine")).not.toBeInstanceOf(Mine);
});
