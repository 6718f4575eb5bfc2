// A choice of rooms, and the one that was chosen.

import { useConnection } from "hauyna/react";
import { useState } from "react";
import { ROOMS, type RoomName, TRY, describe, title } from "../../vite/chat.js";
import { Code } from "./Code.js";
import { People } from "./People.js";
import { Room } from "./Room.js";

export function App({ name }: { name: string }) {
  const [room, setRoom] = useState<RoomName>("general");
  const connection = useConnection();
  return (
    <div className="chat">
      <header>
        <h1>Chat in React, as {name}</h1>
        <p className="state" role="status" data-testid="state" data-state={connection.name}>
          {describe(connection)}
        </p>
        <nav>
          {ROOMS.map((one) => (
            <button key={one} type="button" aria-current={one === room ? "page" : undefined} onClick={() => setRoom(one)}>
              {title(one)}
            </button>
          ))}
        </nav>
      </header>
      <Room key={room} name={room} />
      <aside className="side">
        <People room={room} />
        <Code />
        <section>
          <h2>Try this</h2>
          <ul className="try">
            {TRY.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </section>
      </aside>
    </div>
  );
}
