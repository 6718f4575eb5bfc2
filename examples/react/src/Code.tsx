// The code that matters: parts of this page's own files, as they run.

import { excerpt, tokens } from "../../vite/code.js";
import main from "./main.tsx?raw";
import room from "./Room.tsx?raw";

const CODE = `${excerpt(main, "createRoot(")}

${excerpt(room, "export function Room(", "  return (")}
  …`;

export function Code() {
  return (
    <figure className="code" data-testid="code">
      <figcaption>The code that matters, from main.tsx and Room.tsx</figcaption>
      <pre tabIndex={0} role="region" aria-label="Code of this page">
        <code>
          {tokens(CODE).map(({ kind, text }, n) => (
            <span key={n} className={kind}>
              {text}
            </span>
          ))}
        </code>
      </pre>
    </figure>
  );
}
