// The list of channels and people, which is a drawer where the window is narrow.

const narrow = matchMedia("(max-width: 760px)");
const at = (id) => document.getElementById(id);

/** Opens and closes it as its buttons, Escape and the width of the window say. */
export function watchDrawer() {
  at("menu").addEventListener("click", () => setDrawer(!isOpen()));
  at("veil").addEventListener("click", closeDrawer);
  document.addEventListener("keydown", (event) => event.key === "Escape" && closeDrawer());
  narrow.addEventListener("change", () => setDrawer(false));
  setDrawer(false);
}

/** Does nothing where it is not open. */
export function closeDrawer() {
  if (isOpen()) setDrawer(false);
}

function isOpen() {
  return at("menu").ariaExpanded === "true";
}

/** On a phone either the list or the room can be reached, and the focus goes along. */
function setDrawer(open) {
  const wasOpen = isOpen();
  at("chat").classList.toggle("open", open);
  at("menu").ariaExpanded = String(open);
  at("side").inert = narrow.matches && !open;
  at("main").inert = narrow.matches && open;
  if (open) at("side").querySelector("button").focus();
  else if (wasOpen) at("menu").focus();
}
