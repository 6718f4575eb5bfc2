import { State } from "./client.js";

// Rendered for each request, not at build time.
export const dynamic = "force-dynamic";

export default function Page() {
  return <State />;
}
