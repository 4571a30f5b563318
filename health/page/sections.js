// What the page shows of one picture, section by section.
// Law: every state is a word; colour and sign only repeat it.

import { age, badge, cell, el, empty, head, number, path, showBytes, showWall, some, table } from "./element.js";
import { drawMap } from "./map.js";

const HEALTH = { up: ["good", "▲ up"], down: ["bad", "▼ down"], unknown: ["dim", "? unknown"] };
const SESSION = { up: ["good", "▲ up"], connected: ["warn", "… connected"], down: ["bad", "▼ down"] };
const LINK = { up: ["good", "▲ up"], connecting: ["warn", "… connecting"], down: ["bad", "▼ down"] };
const SPEECH = { normal: "good", degraded: "warn", drained: "warn", withdrawn: "dim", unknown: "dim" };
const stateBadge = (words, state) => badge(...(words[state] ?? ["dim", `? ${state}`]));

// ---- sites -------------------------------------------------------------------------------------------------------

function groupLine(name, group, wholeSite) {
  const line = el("li", {}, `${name} `);
  if (!group.current) line.append(badge("bad", "not current"), ` ${group.current_reason}`);
  else if (group.withheld && !wholeSite) line.append(badge("warn", "gets nobody"), ` ${group.withheld}`);
  else if (group.pending_total === 0) line.append(badge("good", "settled"));
  else {
    const those = group.pending.slice(0, 3).join(", ") + (group.pending_total > 3 ? ", …" : "");
    line.append(badge("warn", "withheld"), " for ", age(group.lag_seconds), `: ${group.pending_total} of its prefixes, `, path(those));
  }
  return line;
}

// Short: the health and its reason stand beside it.
export function steering(site) {
  if (!site.withheld) return "gets users";
  return `gets nobody: ${site.drained.includes("*") ? site.withheld : `health is ${site.health}`}`;
}

function orderButton(order, site) {
  const label = `${order === "drain" ? "Drain" : "Undrain"} ${site}`;
  return el("button", { type: "button", class: "small quiet", "aria-label": `${label} …`, "aria-haspopup": "dialog", "data-order": order, "data-site": site },
    order === "drain" ? "Drain …" : "Undrain …");
}

function siteRow(site) {
  const health = cell(stateBadge(HEALTH, site.health));
  if (site.drained.length) {
    health.append(" ", badge("warn", site.drained.includes("*") ? "drained" : `drained: ${site.drained.join(", ")}`));
  }
  const groups = Object.entries(site.groups).map(([name, group]) => groupLine(name, group, site.withheld));
  const orders = cell();
  if (!site.drained.includes("*")) orders.append(orderButton("drain", site.name), " ");
  if (site.drained.length) orders.append(orderButton("undrain", site.name));
  return [
    head(site.name), health, cell(age(site.since_seconds)), cell(site.reason), cell(steering(site)),
    cell(el("ul", { class: "groups" }, ...groups)), number(`${site.load.toFixed(1)}/s`), orders,
  ];
}

function siteTable(sites) {
  return [table("Sites", ["site", "health", "for", "why", "steering", "content", "requests", "override"], sites.map(siteRow))];
}

function probeTable([probes, total]) {
  if (!total) return [empty("This member makes no probes.")];
  const rows = probes.map((each) => {
    const said = cell(each.reason);
    if (each.warning) said.append(" ", badge("warn", "see to it"), ` ${each.warning}`);
    const late = each.overdue_seconds > 0 ? [badge("warn", "late"), " by ", age(each.overdue_seconds)] : ["in time"];
    return [head(each.site), cell(each.name), cell(stateBadge(HEALTH, each.health)), said, cell(...late), cell(each.gates ? "groups that require it" : "the site")];
  });
  return [some("The first", probes.length, total), table("Probes", ["site", "probe", "finds it", "because", "results come", "says it of"], rows)];
}

// ---- content -----------------------------------------------------------------------------------------------------

function lagCell(lag) {
  if (!lag) return el("td", { class: "soft" }, "nothing known");
  const behind = lag.known - lag.landed + lag.gaps;
  if (behind <= 0) return cell(badge("good", "all landed"), el("span", { class: "soft" }, ` ${lag.known}`));
  return cell(badge("warn", `${behind} behind`), " ", age(lag.seconds), el("span", { class: "soft" }, ` ${lag.landed} of ${lag.known}`));
}

function lagTable(group) {
  const origins = [...new Set(group.cells.map((each) => each.origin))].sort();
  const sites = [...new Set(group.cells.map((each) => each.site))].sort();
  const find = (origin, site) => group.cells.find((each) => each.origin === origin && each.site === site);
  const rows = origins.map((origin) => [head(origin), ...sites.map((site) => lagCell(find(origin, site)))]);
  const title = el("h3", {}, group.name);
  return origins.length ? [title, table(`Replication of ${group.name}`, ["made at", ...sites], rows)] : [title, empty("No change was ever made.")];
}

function flightTable([flights, total]) {
  if (!total) return [empty("Everything has landed everywhere.")];
  const rows = flights.map((each) => [
    cell(age(each.age_seconds)), cell(path(`${each.group}:${each.path}`)), cell(each.kind), number(showBytes(each.size_bytes)),
    cell(`${each.origin} #${each.seq}`), cell(each.fenced ? badge("good", "fenced") : badge("warn", "not fenced")),
    cell(each.waiting.join(", ") || "nowhere"), cell(each.reason || "its turn"),
  ]);
  return [some("The oldest", flights.length, total), table("In flight", ["age", "path", "kind", "size", "made at", "fence", "has to land at", "waits for"], rows)];
}

function conflictTable([conflicts, total]) {
  if (!total) return [empty("None.")];
  const rows = conflicts.map((each) => [
    cell(showWall(each.wall)), cell(path(`${each.group}:${each.path}`)), cell(`${each.winner} won over ${each.loser}`),
    cell(each.kept ? path(each.kept) : "it had no bytes"),
  ]);
  return [some("The newest", conflicts.length, total), table("Conflicts", ["time", "path", "versions", "the other is kept in"], rows)];
}

// ---- routes, links, decisions ------------------------------------------------------------------------------------

function acknowledged(route) {
  if (route.acknowledged === route.wanted) return "acknowledged";
  const state = route.acknowledged === "unknown" ? "not acknowledged yet" : `still has ${route.acknowledged}`;
  return route.waits_for ? `${state}: ${route.waits_for}` : state;
}

function sessionTable(session) {
  const title = el("h3", {}, `${session.peer} (AS ${session.asn}) `, stateBadge(SESSION, session.state), " for ", age(session.since_seconds));
  const rows = session.routes.map((route) => [
    el("th", { scope: "row", class: "path nowrap" }, route.prefix), cell(badge(SPEECH[route.wanted] ?? "dim", route.wanted), " for ", age(route.since_seconds)),
    cell(acknowledged(route)), cell(route.reason),
  ]);
  const routes = rows.length ? table(`Routes at ${session.peer}`, ["route", "wanted", "router", "why"], rows) : empty("No route.");
  return session.state === "up" ? [title, routes] : [title, el("p", { class: "hint" }, session.reason), routes];
}

function linkTable(links) {
  if (!links.length) return [empty("No other member.")];
  return [table("Links", ["member", "link", "for", "why", "queued", "protocol"], links.map((each) => [
    head(each.peer), cell(stateBadge(LINK, each.state)), cell(age(each.since_seconds)), cell(each.reason || "it works"), number(showBytes(each.queued_bytes)),
    number(each.protocol || "–"),
  ]))];
}

function drainTable(drains) {
  if (!drains.length) return [empty("No override by an operator.")];
  return [table("Overrides by operators", ["drained site", "group", "said at"], drains.map((each) => [
    head(each.site), cell(each.group === "*" ? "all" : each.group), cell(each.by),
  ]))];
}

export function eventTable(label, events) {
  return table(label, ["time", "about", "what"], events.map((each) => [
    el("td", { class: "nowrap" }, showWall(each.wall)), cell(each.kind), cell(each.text),
  ]));
}

const placed = ({ name, coordinates, health, drained }) => ({ name, coordinates, health, drained });

// Id of the section, what of the picture it shows, and how.
export const SECTIONS = [
  ["sites", (s) => s.sites, siteTable],
  ["map", (s) => s.sites.map(placed), (sites) => [drawMap(sites) ?? empty("No site has coordinates.")]],
  ["lag", (s) => s.groups, (groups) => (groups.length ? groups.flatMap(lagTable) : [empty("No group.")])],
  ["bgp", (s) => s.sessions, (sessions) => (sessions.length ? sessions.flatMap(sessionTable) : [empty("No router is configured.")])],
  ["flights", (s) => [s.flights, s.flights_total], flightTable],
  ["conflicts", (s) => [s.conflicts, s.conflicts_total], conflictTable],
  ["probes", (s) => [s.probes, s.probes_total], probeTable],
  ["links", (s) => s.links, linkTable],
  ["drains", (s) => s.drains, drainTable],
  ["decisions", (s) => s.decisions, (decisions) => [decisions.length ? eventTable("Decisions", decisions) : empty("Nothing yet.")]],
];
