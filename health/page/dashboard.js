// The page: one picture of everything, pushed by the member, drawn anew where it differs.
// Law: what came from outside is put in as text, never as markup; every state is a word, colour only repeats it.

import { drawMap } from "./map.js";

const SILENCE_SECONDS_MAX = 12; // the member speaks at least every 5 s
const RETRY_MILLISECONDS = 2000;
const byId = (id) => document.getElementById(id);

// ---- small words -------------------------------------------------------------------------------------------------

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function showSeconds(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function showBytes(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes, unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

const showWall = (wall) => new Date(wall * 1000).toLocaleTimeString([], { hour12: false });

// An age that goes on growing until the next picture.
function age(seconds) {
  const made = el("span", { class: "age nowrap" }, showSeconds(seconds));
  made.dataset.born = String(performance.now() - seconds * 1000);
  return made;
}

function tick() {
  for (const each of document.querySelectorAll(".age")) {
    const text = showSeconds((performance.now() - Number(each.dataset.born)) / 1000);
    if (each.textContent !== text) each.textContent = text;
  }
}

const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);
const empty = (text) => el("p", { class: "empty" }, text);
const path = (text) => el("span", { class: "path" }, text);
const cell = (...content) => el("td", {}, ...content);
const number = (...content) => el("td", { class: "number" }, ...content);

function table(titles, rows) {
  const head = el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells))));
}

// ---- the sections ------------------------------------------------------------------------------------------------

const HEALTH = { up: ["good", "▲ up"], down: ["bad", "▼ down"], unknown: ["dim", "? unknown"] };
const SESSION = { up: ["good", "▲ up"], connected: ["warn", "… connected"], down: ["bad", "▼ down"] };
const LINK = { up: ["good", "▲ up"], connecting: ["warn", "… connecting"], down: ["bad", "▼ down"] };
const stateBadge = (words, state) => badge(...(words[state] ?? ["dim", `? ${state}`]));

function groupLine(name, group, wholeSite) {
  const line = el("li", {}, `${name} `);
  if (!group.current) line.append(badge("bad", "not current"), ` ${group.current_reason}`);
  else if (group.withheld && !wholeSite) line.append(badge("warn", "gets nobody"), ` ${group.withheld}`);
  else if (group.pending_total === 0) line.append(badge("good", "settled"));
  else {
    const some = group.pending.slice(0, 3).join(", ") + (group.pending_total > 3 ? ", …" : "");
    line.append(badge("warn", "waiting"), " ", age(group.lag_seconds), ` for ${group.pending_total} of: `, path(some));
  }
  return line;
}

// Short: the health and its reason stand beside it.
function steering(site) {
  if (!site.withheld) return "gets users";
  return `gets nobody: ${site.drained.includes("*") ? site.withheld : `health is ${site.health}`}`;
}

function siteRow(site) {
  const health = cell(stateBadge(HEALTH, site.health));
  if (site.drained.length) {
    const what = site.drained.includes("*") ? "drained" : `drained: ${site.drained.join(", ")}`;
    health.append(" ", badge("warn", what));
  }
  const groups = Object.entries(site.groups).map(([name, group]) => groupLine(name, group, site.withheld));
  return [
    el("th", { scope: "row" }, site.name), health, cell(age(site.since_seconds)), cell(site.reason),
    cell(steering(site)), cell(el("ul", { class: "groups" }, ...groups)),
    number(`${site.load.toFixed(1)}/s`),
  ];
}

function lagCell(cell) {
  if (!cell) return el("td", { class: "soft" }, "nothing known");
  const behind = cell.known - cell.landed + cell.gaps;
  if (behind <= 0) return el("td", {}, badge("good", "all landed"), el("span", { class: "soft" }, ` ${cell.known}`));
  return el("td", {}, badge("warn", `${behind} behind`), " ", age(cell.seconds), el("span", { class: "soft" }, ` ${cell.landed} of ${cell.known}`));
}

function lagTable(group) {
  const origins = [...new Set(group.cells.map((each) => each.origin))].sort();
  const sites = [...new Set(group.cells.map((each) => each.site))].sort();
  const find = (origin, site) => group.cells.find((each) => each.origin === origin && each.site === site);
  const rows = origins.map((origin) => [el("th", { scope: "row" }, origin), ...sites.map((site) => lagCell(find(origin, site)))]);
  const title = el("h3", {}, group.name);
  return origins.length ? [title, table(["made at", ...sites], rows)] : [title, empty("no change was ever made")];
}

const SPEECH = { normal: "good", degraded: "warn", drained: "warn", withdrawn: "dim", unknown: "dim" };

function acknowledged(route) {
  if (route.acknowledged === route.wanted) return "acknowledged";
  const state = route.acknowledged === "unknown" ? "not acknowledged yet" : `still has ${route.acknowledged}`;
  return route.waits_for ? `${state}: ${route.waits_for}` : state;
}

function sessionTable(session) {
  const title = el("h3", {}, `${session.peer} (AS ${session.asn}) `, stateBadge(SESSION, session.state), " for ", age(session.since_seconds));
  const rows = session.routes.map((route) => [
    el("td", { class: "path nowrap" }, route.prefix), cell(badge(SPEECH[route.wanted] ?? "dim", route.wanted), " for ", age(route.since_seconds)),
    cell(acknowledged(route)), cell(route.reason),
  ]);
  const routes = rows.length ? table(["route", "wanted", "router", "why"], rows) : empty("no route");
  return session.state === "up" ? [title, routes] : [title, el("p", { class: "hint" }, session.reason), routes];
}

function flightTable(flights, total) {
  if (!total) return empty("Everything has landed everywhere.");
  const rows = flights.map((each) => [
    cell(age(each.age_seconds)), cell(path(`${each.group}:${each.path}`)), cell(each.kind), number(showBytes(each.size_bytes)),
    cell(`${each.origin} #${each.seq}`), cell(each.fenced ? badge("good", "fenced") : badge("warn", "not fenced")),
    cell(each.waiting.join(", ") || "nowhere"), cell(each.reason),
  ]);
  const made = table(["age", "path", "kind", "size", "made at", "fence", "has to land at", "waits for"], rows);
  return total > flights.length ? el("div", {}, el("p", { class: "hint" }, `The oldest ${flights.length} of ${total}.`), made) : made;
}

function conflictTable(conflicts, total) {
  if (!total) return empty("None.");
  const rows = conflicts.map((each) => [
    cell(showWall(each.wall)), cell(path(`${each.group}:${each.path}`)), cell(`${each.winner} won over ${each.loser}`), cell(path(each.kept)),
  ]);
  const made = table(["time", "path", "versions", "the other is kept in"], rows);
  return total > conflicts.length ? el("div", {}, el("p", { class: "hint" }, `The newest ${conflicts.length} of ${total}.`), made) : made;
}

function linkTable(links) {
  if (!links.length) return empty("No other member.");
  return table(["member", "link", "for", "why", "queued"], links.map((each) => [
    el("th", { scope: "row" }, each.peer), cell(stateBadge(LINK, each.state)), cell(age(each.since_seconds)), cell(each.reason), number(showBytes(each.queued_bytes)),
  ]));
}

function drainTable(drains) {
  if (!drains.length) return empty("No override by an operator.");
  return table(["drained site", "group", "said at"], drains.map((each) => [
    el("th", { scope: "row" }, each.site), cell(each.group === "*" ? "all" : each.group), cell(each.by),
  ]));
}

function decisionTable(decisions) {
  if (!decisions.length) return empty("Nothing yet.");
  return table(["time", "part", "what"], decisions.map((each) => [cell(showWall(each.wall)), cell(each.part), cell(each.text)]));
}

const SITE_TITLES = ["site", "health", "for", "why", "steering", "content", "load"];
const SECTIONS = [
  ["sites", (s) => s.sites, (sites) => [...table(SITE_TITLES, sites.map(siteRow)).childNodes]],
  ["map", (s) => s.sites.map(({ name, coordinates, health, drained }) => ({ name, coordinates, health, drained })),
    (sites) => [drawMap(sites) ?? empty("No site has coordinates.")]],
  ["lag", (s) => s.groups, (groups) => groups.length ? groups.flatMap(lagTable) : [empty("No group.")]],
  ["bgp", (s) => s.sessions, (sessions) => sessions.length ? sessions.flatMap(sessionTable) : [empty("No router is configured.")]],
  ["flights", (s) => [s.flights, s.flights_total], ([flights, total]) => [flightTable(flights, total)]],
  ["conflicts", (s) => [s.conflicts, s.conflicts_total], ([conflicts, total]) => [conflictTable(conflicts, total)]],
  ["links", (s) => s.links, (links) => [linkTable(links)]],
  ["drains", (s) => s.drains, (drains) => [drainTable(drains)]],
  ["decisions", (s) => s.decisions, (decisions) => [decisionTable(decisions)]],
];
const drawn = new Map();

// What a section shows, with ages as when they began, so that growing older is no difference.
function fingerprint(data, wall) {
  return JSON.stringify(data, (key, value) =>
    key.endsWith("seconds") && value ? `born ${Math.round((wall - value) / 2)}` : value);
}

function draw(status) {
  document.title = `${status.member} · Anycastle`;
  const uptime = age(status.uptime_seconds);
  byId("about").replaceChildren(`cluster ${status.cluster}, seen from ${status.member}, version ${status.version}, running for `, uptime);
  const alone = `${status.member} has lost every other member and suspects itself: what it shows of them is frozen.`;
  const notes = status.isolated ? [alone, ...status.notes] : status.notes;
  byId("warning").hidden = !notes.length;
  byId("warning").textContent = notes.join("\n");
  for (const [id, pick, make] of SECTIONS) {
    const data = pick(status), print = fingerprint(data, status.wall);
    if (drawn.get(id) === print) continue;
    drawn.set(id, print);
    byId(id).replaceChildren(...make(data));
  }
}

// ---- live --------------------------------------------------------------------------------------------------------

let heardAt = null;

function connection(state, text) {
  const line = byId("connection");
  line.dataset.state = state;
  if (line.textContent !== text) line.textContent = text;
  document.body.classList.toggle("stale", state === "lost" && heardAt !== null);
}

function listen() {
  const source = new EventSource("api/v1/events");
  source.addEventListener("status", (event) => {
    heardAt = performance.now();
    draw(JSON.parse(event.data));
    connection("live", "live");
  });
  source.addEventListener("error", () => {
    connection("lost", "connection lost, trying again");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(listen, RETRY_MILLISECONDS);
  });
}

setInterval(() => {
  tick();
  const silent = heardAt === null ? 0 : (performance.now() - heardAt) / 1000;
  if (silent > SILENCE_SECONDS_MAX) connection("lost", `nothing heard for ${showSeconds(silent)}`);
}, 1000);

// ---- the two questions -------------------------------------------------------------------------------------------

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const words = (key) => key.replaceAll("_seconds", "").replaceAll("_bytes", "").replaceAll("_", " ");

function show(key, value) {
  if (value === null || value === "" || (Array.isArray(value) && !value.length)) return el("span", { class: "soft" }, "none");
  if (typeof value === "boolean") return el("span", {}, value ? "yes" : "no");
  if (typeof value === "number" && key.endsWith("seconds")) return el("span", {}, showSeconds(value));
  if (typeof value === "number" && key.endsWith("bytes")) return el("span", {}, showBytes(value));
  if (typeof value === "number" && key.endsWith("wall")) return el("span", {}, showWall(value));
  if (Array.isArray(value)) return value.every(isObject) ? showRows(value) : el("span", {}, value.map(String).join(", "));
  if (isObject(value)) return showObject(value);
  return el("span", {}, String(value));
}

function showRows(rows) {
  const keys = [...new Set(rows.flatMap(Object.keys))];
  return table(keys.map(words), rows.map((row) => keys.map((key) => cell(show(key, row[key] ?? null)))));
}

function showObject(object) {
  const entries = Object.entries(object);
  if (entries.length && entries.every(([, value]) => isObject(value))) return showRows(entries.map(([name, value]) => ({ "": name, ...value })));
  return el("dl", {}, ...entries.flatMap(([key, value]) => [el("dt", {}, words(key)), el("dd", {}, show(key, value))]));
}

async function question(event) {
  event.preventDefault();
  const form = event.target, answer = byId(`${form.id}-answer`);
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  try {
    const response = await fetch(`api/v1/${form.id}?${query}`);
    const { summary, error, ...rest } = await response.json();
    if (error !== undefined) answer.replaceChildren(el("p", { class: "fault" }, error));
    else answer.replaceChildren(...(summary ? [el("p", { class: "summary" }, summary)] : []), showObject(rest));
  } catch (error) {
    answer.replaceChildren(el("p", { class: "fault" }, `The member gave no answer (${error.message}).`));
  }
}

for (const id of ["where", "explain"]) byId(id).addEventListener("submit", question);
listen();
