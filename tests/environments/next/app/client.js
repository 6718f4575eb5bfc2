"use client";

// As applications do: one client for the whole page, made when the module is loaded, also on the server.

import { Client } from "hauyna";
import { useEffect, useState } from "react";

const client = new Client("/live");
const room = client.channel("room:1");

export function State() {
  const [state, setState] = useState(client.state.name);
  useEffect(() => client.onState(({ name }) => setState(name)), []);
  return (
    <p>
      {room.name} is {state}
    </p>
  );
}
