// Who is in the room. The subscription is shared with Room.tsx.

import { usePresence } from "hauyna/react";
import type { RoomName } from "../../vite/chat.js";
import { useChannel } from "./hooks.js";

export function People({ room }: { room: RoomName }) {
  const { users, count } = usePresence(useChannel(room));
  return (
    <section>
      <h2>Here now: {count}</h2>
      <ul data-testid="people">
        {[...users.keys()].sort().map((user) => (
          <li key={user}>{user}</li>
        ))}
      </ul>
    </section>
  );
}
