// An application that uses the public API broadly. It has to compile with every TypeScript of the table.

import {
  type AbortSignalLike,
  type AnyChannel,
  type AnyClient,
  type Channel,
  type ChannelState,
  Client,
  type ClientOptions,
  type Codec,
  type Environment,
  type Gap,
  type HistoryPage,
  HauynaError,
  type Logger,
  type Unsubscribe,
  type Position,
  type Member,
  type Publication,
  type RequestOptions,
  ServerError,
  type State,
  type Subscribed,
  type WebSocketConstructor,
  type WebSocketLike,
  closeCodes,
  shouldReconnect,
  consoleLogger,
  json,
  msgpack,
  defaultEnvironment,
} from "hauyna";

interface Chat {
  requests: { rename: { data: { name: string }; reply: { name: string } }; ping: { data: {}; reply: null } };
  clientRequests: { confirm: { data: { question: string }; reply: { choice: "yes" | "no" } } };
  messages: { welcome: { motd: string }; private: { text: string } };
  channels: { "room:{id}": Room; lobby: { message: string } };
  clientEvents: { "room:{id}": { cursor: { x: number; y: number } } };
}
interface Room {
  message: { text: string };
  typing: { user: string };
}

// Options of an application may be absent or undefined, whatever exactOptionalPropertyTypes says.
function make(url: string, given: { token?: string; timeout?: number }): Client<Chat> {
  const options: ClientOptions = {
    codec: given.token === "binary" ? msgpack : json,
    timeout: given.timeout,
    ttl: undefined,
    connectTimeout: undefined,
    getToken: async ({ isRefresh }) => (isRefresh ? undefined : given.token),
    logger: consoleLogger("warn"),
    retry: undefined,
    outbox: undefined,
    WebSocket: undefined,
    environment: defaultEnvironment,
  };
  return new Client<Chat>(url, options);
}

class OwnSocket implements WebSocketLike {
  binaryType = "arraybuffer";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown } & never) => void) | null = null;
  onclose: ((event: { code: number; reason: string; status?: number } & never) => void) | null = null;
  onerror: ((event: { message?: unknown } & never) => void) | null = null;
  readonly url: string;
  constructor(url: string, _protocols: string[]) {
    this.url = url;
  }
  send(_data: string | Uint8Array): void {}
  close(_code?: number, _reason?: string): void {}
}

const SocketClass: WebSocketConstructor = OwnSocket;
const codec: Codec = msgpack;
const logger: Logger = { debug() {}, info() {}, warn(_message, _fields) {}, error() {} };
const time: Pick<Environment, "now"> = defaultEnvironment;

export async function use(given: { token?: string; timeout?: number }): Promise<string> {
  const client = make("/live", given);
  const offs: Unsubscribe[] = [];
  offs.push(client.onState((state: State) => state.name === "reconnecting" && (state.retryAt ?? 0) - time.now()));
  offs.push(client.onGap((gap: Gap) => void gap.reason.length));
  offs.push(client.onError((error: ServerError) => void error.type.length));
  offs.push(client.on("welcome", ({ motd }) => void motd.length));
  offs.push(client.on("private", ({ from, message }) => void `${from}: ${message.text}`));
  offs.push(client.onRequest("confirm", ({ question }) => ({ choice: question ? "yes" : "no" })));
  await client.connect();

  const room = client.channel("room:1");
  const own: Channel<Room> = room;
  offs.push(room.on("message", (message: Publication<{ text: string }>) => void message.content.text.length));
  offs.push(room.on("typing", ({ user, timestamp }) => void (user.length + timestamp)));
  offs.push(room.onState((state: ChannelState) => void state.error?.kind));
  offs.push(room.presence.on("join", (present: Member) => void present.user.length));
  const since: Position | undefined = own.position;
  const standing: Subscribed = await room.subscribe({ metadata: { device: "phone" }, since, getToken: undefined });
  const repeatable: RequestOptions = { timeout: given.timeout, ttl: undefined };
  const published = await room.publish({ text: "hello" }, { key: undefined, ...repeatable });
  const page: HistoryPage<Room> = await room.history({ before: published, limit: undefined });
  for (const message of page.messages) {
    if (message.type === "message") message.content.text.length;
    else message.user.length;
  }
  const users: ReadonlyMap<string, Member> = room.presence.users;
  const { name } = await client.request("rename", { name: "Ana" }, { repeatable: true });
  await client.request("ping");
  const lobby = client.channel("lobby");
  lobby.on("message", ({ content }) => content.length);

  try {
    await client.sendToUser("ben", { text: name });
    await room.unsubscribe();
  } catch (error) {
    if (error instanceof ServerError) return `${error.type} ${error.retryAfter ?? 0} ${String(error.temporary)}`;
    if (error instanceof HauynaError && error.kind === "closed") return error.message;
  }
  for (const off of offs) off();
  client.close(closeCodes.normal, "done");
  return `${users.size} ${String(standing.recoverable)} ${String(shouldReconnect(1006))}`;
}

// Without a contract, everything is open.
export function open(): Channel {
  const client = new Client("wss://shop.example/live", { WebSocket: SocketClass, codec, logger });
  const channel: AnyChannel = client.channel("anything");
  channel.on("message", ({ content }) => typeof content);
  void client.request("anything", { at: 1 });
  return client.channel("other");
}

// What helpers take: any client and any channel, whatever their contract.
function log(client: AnyClient, channel: AnyChannel): void {
  client.onState(({ name }) => void `${channel.name}: ${name}`);
}

export async function events(client: Client<Chat>, signal?: AbortSignalLike): Promise<number> {
  const room = client.channel("room:1");
  log(client, room);
  room.onEvent("cursor", ({ data, user }) => void `${user} ${data.x}`);
  room.send("cursor", { x: 1, y: 2 });
  await client.connect({ timeout: undefined, signal });
  const { unsubscribe } = await room.subscribe({ signal });
  let length = 0;
  for await (const { content } of room.messages({ signal })) length += content.text.length;
  for await (const past of room.older({ limit: 10, signal })) length += past.timestamp;
  await room.publish({ text: "own" }, { echo: false, signal });
  await room.presence.update({ device: "phone" });
  await unsubscribe();
  return length;
}

// What is wrong does not compile.
export function wrong(client: Client<Chat>): void {
  // @ts-expect-error: content of a room is an object
  void client.channel("room:1").publish("text");
  // @ts-expect-error: no such channel
  void client.channel("rooms:1");
  // @ts-expect-error: no such event
  client.channel("room:1").send("typing", {});
  // @ts-expect-error: no such request
  void client.request("delete", {});
  // @ts-expect-error: a field is missing
  void client.request("rename", {});
}
