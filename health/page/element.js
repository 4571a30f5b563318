// Small words for making what is shown, and for changing it in place.
// Law: what came from outside is put in as text, never as markup; what did not change keeps its focus and its selection.

export const byId = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

// Make the children of `parent` like these (null is none), with as little change as can be.
export function fill(parent, wanted) {
  const old = [...parent.childNodes], fresh = wanted.filter((node) => node !== null);
  fresh.forEach((node, at) => (at < old.length ? patch(old[at], node) : parent.append(node)));
  for (const node of old.slice(fresh.length)) node.remove();
}

function patch(old, fresh) {
  if (old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  fill(old, [...fresh.childNodes]);
}

// ---- words for numbers -------------------------------------------------------------------------------------------

export function showSeconds(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function showBytes(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

// The time, and the day when it is another one.
export function showWall(wall) {
  const then = new Date(wall * 1000), time = then.toLocaleTimeString([], { hour12: false });
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString()} ${time}`;
}

export const showMinute = (wall) => new Date(wall * 1000).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit" });

// An age that goes on growing until the next picture.
export function age(seconds) {
  const made = el("span", { class: "age nowrap" }, showSeconds(seconds));
  made.dataset.born = String(performance.now() - seconds * 1000);
  return made;
}

export function growOlder() {
  for (const each of document.querySelectorAll(".age")) {
    const text = showSeconds((performance.now() - Number(each.dataset.born)) / 1000);
    if (each.textContent !== text) each.textContent = text;
  }
}

// ---- tables ------------------------------------------------------------------------------------------------------

export const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);
export const empty = (text) => el("p", { class: "empty" }, text);
export const path = (text) => el("span", { class: "path" }, text);
export const cell = (...content) => el("td", {}, ...content);
export const number = (...content) => el("td", { class: "number" }, ...content);
export const head = (...content) => el("th", { scope: "row" }, ...content);

// On a narrow screen each row is a card, whose lines begin with their titles. Laid out so, browsers forget that it is a
// table, so it is said in roles too.
export function table(label, titles, rows) {
  const line = (cells) => {
    cells.forEach((each, at) => {
      each.setAttribute("role", each.nodeName === "TH" ? "rowheader" : "cell");
      each.dataset.title = titles[at];
    });
    return el("tr", { role: "row" }, ...cells);
  };
  const columns = titles.map((title) => el("th", { scope: "col", role: "columnheader" }, title));
  return el("table", { role: "table", "aria-label": label },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...columns)),
    el("tbody", { role: "rowgroup" }, ...rows.map(line)));
}

export const some = (what, shown, total) => (total > shown ? el("p", { class: "hint" }, `${what} ${shown} of ${total}.`) : null);

// ---- spoken words ------------------------------------------------------------------------------------------------

const SPEAK_MILLISECONDS = 2000; // so that a burst of changes is one sentence after the other, and not a flood
let unspoken = [];

// For those who do not see the page: once, politely.
export function speak(text) {
  if (unspoken.length === 0) {
    setTimeout(() => {
      byId("spoken").textContent = unspoken.join(". ");
      unspoken = [];
    }, SPEAK_MILLISECONDS);
  }
  unspoken.push(text);
}
