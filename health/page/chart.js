// The last hour as lines: plain SVG that stretches, with its words beside it so that they never stretch along.
// Law: a gap is a gap; what a line shows is told in words too, and as a table for whoever asks.

import { badge, byId, cell, el, empty, fill, head, shape, showMinute, showSeconds, table } from "./element.js";

const LINES_MAX = 6; // more cannot be told apart
const WIDTH = 720, HEIGHT = 100;
const ROW_SECONDS = 300;
const SPAN_POINTS_MIN = 60; // five minutes: the first ones of a member's life are not a dot at the edge

const showMilliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const showLatency = (seconds) => (seconds > 0 && seconds < 1 ? showMilliseconds(seconds * 1000) : showSeconds(seconds));
const showRate = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`;
const CHARTS = [
  { id: "chart-lag", title: "Replication lag", show: showLatency, names: { lag_seconds: "" } },
  { id: "chart-fence", title: "Fence latency", show: showLatency, names: { fence_seconds: "mean of writes" } },
  { id: "chart-queries", title: "Queries and requests", show: showRate, names: { dns_queries_per_second: "DNS queries", edge_requests_per_second: "requests at the edge" } },
  { id: "chart-errors", title: "Errors", show: showRate, names: { dns_errors_per_second: "DNS errors", edge_errors_per_second: "refused or failed at the edge" } },
];

// ---- the points --------------------------------------------------------------------------------------------------

let kept = null;

export function showSeries(report) {
  kept = report;
  drawAll();
}

// False when points are missing between those known and this one: then all are needed.
export function addPoint(report) {
  if (kept === null || report.number > kept.number + 1) return false;
  if (report.number <= kept.number) return true;
  const key = (line) => `${line.name} ${line.label}`;
  const before = new Map(kept.series.map((line) => [key(line), line.values]));
  const series = report.series.map((line) => ({ ...line, values: [...(before.get(key(line)) ?? []), ...line.values].slice(-report.points_max) }));
  kept = { ...report, series };
  drawAll();
  return true;
}

// ---- drawing -----------------------------------------------------------------------------------------------------

const highest = (values) => values.reduce((most, value) => Math.max(most, value ?? 0), 0);

// The next of 1, 2, 5, 10, 20 … above: a scale that does not change with every point.
function scaleOf(most) {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  return [1, 2, 5, 10].map((step) => step * power).find((scale) => scale >= most) ?? most;
}

function outline(values, scale, span) {
  const first = span - values.length;
  let words = "", pen = false;
  values.forEach((value, at) => {
    if (value === null) { pen = false; return; }
    const x = ((first + at) * WIDTH / (span - 1)).toFixed(1), y = (HEIGHT - (value / scale) * HEIGHT).toFixed(1);
    const alone = !pen && (values[at + 1] ?? null) === null; // a line to itself: a dot
    words += `${pen ? "L" : "M"}${x} ${y}${alone ? `L${x} ${y}` : ""}`;
    pen = true;
  });
  return words;
}

function inWords(line, show) {
  const most = highest(line.values), at = line.values.lastIndexOf(most), last = line.values.at(-1);
  const now = last === null ? "nothing now" : `${show(last)} now`;
  if (most === 0) return `${line.label}: ${now}, never more`;
  return `${line.label}: ${now}, at most ${show(most)} at ${showMinute(wallOf(line, at))}`;
}

const wallOf = (line, at) => kept.wall - (line.values.length - 1 - at) * kept.point_seconds;

function linesOf({ names }) {
  const found = kept.series.filter((line) => line.name in names)
    .map((line) => ({ label: line.label || names[line.name], values: line.values }));
  const most = [...found].sort((a, b) => highest(b.values) - highest(a.values)).slice(0, LINES_MAX);
  return { shown: found.filter((line) => most.includes(line)), total: found.length };
}

function drawing(title, lines, show) {
  const scale = scaleOf(Math.max(...lines.map((line) => highest(line.values))));
  const span = Math.min(kept.points_max, Math.max(SPAN_POINTS_MIN, ...kept.series.map((line) => line.values.length)));
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title} of the last hour. ${lines.map((line) => inWords(line, show)).join(". ")}` });
  for (const y of [0, HEIGHT / 2, HEIGHT]) svg.append(shape("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  lines.forEach((line, at) => svg.append(shape("path", { class: `line line${at}`, d: outline(line.values, scale, span) })));
  return el("div", { class: "plot" },
    el("div", { class: "scale", "aria-hidden": "true" }, el("span", {}, show(scale)), el("span", {}, show(scale / 2)), el("span", {}, "0")),
    svg,
    el("div", { class: "times", "aria-hidden": "true" }, el("span", {}, showMinute(kept.wall - span * kept.point_seconds)), el("span", {}, showMinute(kept.wall))));
}

function legend(lines, show) {
  return el("ul", { class: "legend" }, ...lines.map((line, at) => {
    const sample = shape("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, shape("path", { class: `line line${at}`, d: "M0 4L24 4" }));
    const last = line.values.at(-1) ?? null;
    return el("li", {}, sample, ` ${line.label} `, el("strong", {}, last === null ? "–" : show(last)));
  }));
}

// The worst of each five minutes, the newest first.
function asTable(title, lines, show) {
  const step = ROW_SECONDS / kept.point_seconds, rows = [];
  const longest = Math.max(...lines.map((line) => line.values.length));
  for (let from = 0; from < longest; from += step) {
    const part = (line) => line.values.slice(Math.max(0, line.values.length - from - step), line.values.length - from);
    const worst = lines.map((line) => part(line).filter((value) => value !== null));
    rows.push([head(showMinute(kept.wall - from * kept.point_seconds)), ...worst.map((values) => cell(values.length ? show(Math.max(...values)) : "nothing"))]);
  }
  return table(`${title}: most in five minutes`, ["until", ...lines.map((line) => line.label)], rows);
}

function drawOne({ id, title, show, names }) {
  const { shown, total } = linesOf({ names });
  const details = byId(`${id}-table`);
  details.hidden = shown.length === 0;
  if (shown.length === 0) { fill(byId(id), [empty("Nothing of it is counted here.")]); return; }
  const less = total > shown.length ? [badge("dim", `the ${shown.length} of ${total} with the most`)] : [];
  fill(byId(id), [legend(shown, show), ...less, drawing(title, shown, show)]);
  if (details.open) fill(details, [details.firstElementChild.cloneNode(true), asTable(title, shown, show)]);
}

function drawAll() {
  if (kept !== null) CHARTS.forEach(drawOne);
}

for (const { id } of CHARTS) byId(`${id}-table`).addEventListener("toggle", drawAll);
