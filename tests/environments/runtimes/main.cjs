// The scenario as CommonJS, in an application that also has the ES module. Prints what happened.

const hauyna = require("hauyna");
const { scenario } = require("../support/scenario.cjs");

async function main() {
  const other = await import("hauyna");
  if (other.Client === hauyna.Client) throw new Error("both builds are one");
  const { HauynaError } = other;
  // Errors of one build are checked against the class of the other.
  console.log(await scenario({ Client: hauyna.Client, HauynaError }));
}

main();
