// What the examples in React, Vue and Svelte share: the contract of the program's chat, the rooms, and the words.

/** What the chat carries, as far as these pages use it. `hauyna types` writes all of it. */
export interface Chat {
  requests: { subscribers: { data: { channel: string }; reply: { count: number } } };
  channels: { general: Content; "room:{id}": Content };
}

interface Content {
  message: string;
}

export const ROOMS = ["general", "room:tea"] as const;
export type RoomName = (typeof ROOMS)[number];

/** Messages in one page of the history: few, so that there is something to scroll back for. */
export const PAGE_SIZE = 10;

export const TRY = [
  "Open this page twice, under two names, and write: each message is there at once, and once.",
  "Write in one window and watch the other: who types is shown.",
  "Switch the network off and write on: the message waits, and is sent when the network is back. What was missed comes before it.",
  "Write more than ten messages, reload, and load the older ones.",
];

/** The name in the address of the page, else one of a guest. */
export function ownName(): string {
  return new URLSearchParams(location.search).get("name") || `guest-${Math.floor(Math.random() * 1000)}`;
}

export function title(room: string): string {
  return room.replace("room:", "");
}

export function time(timestamp: number): string {
  return new Date(timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** How the connection is, in words. */
export function describe(state: { name: string; reason?: string; retryAt?: number | undefined }): string {
  if (state.name === "connected") return "connected";
  if (state.name === "closed") return "not connected";
  return state.retryAt === undefined ? "connecting …" : `no connection; the next attempt is at ${new Date(state.retryAt).toLocaleTimeString()}`;
}

/** Who types, in words. */
export function typingText(users: readonly string[]): string {
  if (users.length === 0) return "";
  return users.length > 2 ? "Several people are typing …" : `${users.join(" and ")} ${users.length > 1 ? "are" : "is"} typing …`;
}
