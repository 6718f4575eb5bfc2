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

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });

export function time(timestamp) {
  const at = new Date(timestamp);
  const element = make("time", "", clock.format(at));
  element.dateTime = at.toISOString();
  return element;
}

/** The text, in which addresses of the web are links. */
export function linked(text) {
  const whole = document.createDocumentFragment();
  let end = 0;
  for (const { 0: found, index } of text.matchAll(/https?:\/\/[^\s<>"]+/gi)) {
    // What ends a sentence or closes a bracket belongs to the text.
    const address = found.replace(/[.,;:!?)\]}'’”]+$/, "");
    if (!URL.canParse(address)) continue;
    const link = make("a", "", address);
    Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer nofollow" });
    whole.append(text.slice(end, index), link);
    end = index + address.length;
  }
  whole.append(text.slice(end));
  return whole;
}
