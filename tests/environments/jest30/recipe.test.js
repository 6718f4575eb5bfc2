const { Client } = require("hauyna");
const { FakeServer } = require("hauyna/testing");

afterEach(() => jest.useRealTimers());

test("the client comes back when the server does", async () => {
  jest.useFakeTimers();
  const server = new FakeServer({ time: "global" });
  const client = new Client("wss://app.example/live", server.clientOptions);
  await client.connect();
  await server.drop(3000);
  expect(client.state.name).toBe("reconnecting");
  await jest.advanceTimersByTimeAsync(30_000);
  expect(client.state.name).toBe("connected");
  client.close();
});

test("what others publish arrives", async () => {
  const server = new FakeServer();
  const client = await server.connected({ user: "ana" });
  const heard = [];
  client.channel("room:1").on("message", ({ content }) => heard.push(content));
  await client.channel("room:1").subscribe();
  await server.channel("room:1").publish("hi", { user: "bob" });
  expect(heard).toEqual(["hi"]);
});
