// Small elements that every page is made of. All text is set as text: nothing that a peer sent becomes markup.

export function make(tag, classes = "", text = "") {
  const element = document.createElement(tag);
  element.className = classes;
  element.textContent = text;
  return element;
}

/** A disk with the first letter of a name, in a colour of its own. */
export function face(name) {
  const disk = make("span", "face", [...name][0].toUpperCase());
  disk.setAttribute("aria-hidden", "true");
  paint(disk, name);
  return disk;
}

export function paint(disk, name) {
  let hash = 0;
  for (const c of name) hash = (hash * 31 + c.codePointAt(0)) % 360;
  disk.style.setProperty("--hue", hash);
}

export function time(timestamp) {
  const at = new Date(timestamp);
  const element = make("time", "", at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  element.dateTime = at.toISOString();
  element.title = at.toLocaleString();
  return element;
}
