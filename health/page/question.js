// The two questions: where is this path, and what would this client get. The answer's first sentence is spoken, too.

import { byId, cell, el, fill, showBytes, showSeconds, showWall, table } from "./element.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const words = (key) => key.replaceAll("_seconds", "").replaceAll("_bytes", "").replaceAll("_", " ");

function show(key, value) {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return el("span", { class: "soft" }, "none");
  if (typeof value === "boolean") return el("span", {}, value ? "yes" : "no");
  if (typeof value === "number" && key.endsWith("seconds")) return el("span", {}, showSeconds(value));
  if (typeof value === "number" && key.endsWith("bytes")) return el("span", {}, showBytes(value));
  if (typeof value === "number" && key.endsWith("wall")) return el("span", {}, showWall(value));
  if (Array.isArray(value)) return value.every(isObject) ? showRows(key, value) : el("span", {}, value.map(String).join(", "));
  if (isObject(value)) return showObject(key, value);
  return el("span", {}, String(value));
}

function showRows(label, rows) {
  const keys = [...new Set(rows.flatMap(Object.keys))];
  return table(words(label), keys.map(words), rows.map((row) => keys.map((key) => cell(show(key, row[key] ?? null)))));
}

function showObject(label, object) {
  const entries = Object.entries(object);
  if (entries.length && entries.every(([, value]) => isObject(value))) return showRows(label, entries.map(([name, value]) => ({ name, ...value })));
  return el("dl", {}, ...entries.flatMap(([key, value]) => [el("dt", {}, words(key)), el("dd", {}, show(key, value))]));
}

async function ask(form) {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  try {
    return await (await fetch(`api/v1/${form.id}?${query}`)).json();
  } catch (error) {
    return { error: `The member gave no answer (${error.message}).` };
  }
}

async function answer(event) {
  event.preventDefault();
  const { summary, error, ...rest } = await ask(event.target), id = event.target.id;
  byId(`${id}-summary`).textContent = error ?? `${summary ?? "Answered"} (as of ${showWall(Date.now() / 1000)})`;
  byId(`${id}-summary`).classList.toggle("fault", error !== undefined);
  fill(byId(`${id}-answer`), error === undefined ? [showObject("answer", rest)] : []);
}

export function watchQuestions() {
  for (const id of ["where", "explain"]) byId(id).addEventListener("submit", answer);
}
