// The page: one picture of everything, pushed by the member, drawn anew where it differs.
// Law: everything is asked of this member alone; what is lost with the connection is asked for again with the next.

import { addPoint, showSeries } from "./chart.js";
import { age, byId, fill, growOlder, speak } from "./element.js";
import { watchOrders } from "./order.js";
import { watchQuestions } from "./question.js";
import { SECTIONS, steering } from "./sections.js";
import { showTimeline, watchTimeline } from "./timeline.js";

const SILENCE_SECONDS_MAX = 12; // the member speaks at least every 5 s
const RETRY_MILLISECONDS = 2000;

// ---- one picture -------------------------------------------------------------------------------------------------

const drawn = new Map();
let sites = [];

// What a section shows, with ages as when they began, so that growing older is no difference.
function fingerprint(data, wall) {
  return JSON.stringify(data, (key, value) =>
    key.endsWith("seconds") && value ? `born ${Math.round((wall - value) / 2)}` : value);
}

function draw(status) {
  sites = status.sites;
  document.title = `${status.member} · Anycastle`;
  fill(byId("about"), [
    document.createTextNode(`cluster ${status.cluster}, seen from ${status.member}, version ${status.version}, running for `), age(status.uptime_seconds),
  ]);
  const alone = `${status.member} has lost every other member and suspects itself: what it shows of them is frozen.`;
  const notes = status.isolated ? [alone, ...status.notes] : status.notes;
  byId("warning").hidden = !notes.length;
  byId("warning").textContent = notes.join("\n");
  for (const [id, pick, make] of SECTIONS) {
    const data = pick(status), print = fingerprint(data, status.wall);
    if (drawn.get(id) === print) continue;
    drawn.set(id, print);
    fill(byId(id), make(data));
  }
  sayWhatIsNew(notes);
}

// What is told to those who do not see the page: sites that changed, and notes but for the numbers in them.
let said = null;

function sayWhatIsNew(notes) {
  const words = [...sites.map((site) => `${site.name} is ${site.health}, ${steering(site)}`), ...notes.map((note) => note.replace(/[\d.]+/g, "…"))];
  if (said !== null) words.filter((each) => !said.has(each)).forEach(speak);
  said = new Set(words);
}

// ---- live --------------------------------------------------------------------------------------------------------

let heardAt = null;

function connection(state, text) {
  const line = byId("connection");
  if (line.textContent !== text) {
    if (state === "lost" || line.dataset.state === "lost") speak(text);
    line.textContent = text;
  }
  line.dataset.state = state;
  document.body.classList.toggle("stale", state === "lost" && heardAt !== null);
}

async function loadSeries() {
  try {
    showSeries(await (await fetch("api/v1/series")).json());
  } catch {
    // no connection: they are loaded with the next one
  }
}

function listen() {
  const source = new EventSource("api/v1/events");
  source.addEventListener("open", () => { loadSeries(); showTimeline(); });
  source.addEventListener("status", (event) => {
    const status = JSON.parse(event.data);
    heardAt = performance.now();
    draw(status);
    showTimeline(status.events_total);
    connection("live", "live");
  });
  source.addEventListener("point", (event) => { if (!addPoint(JSON.parse(event.data))) loadSeries(); });
  source.addEventListener("error", () => {
    connection("lost", "connection lost, trying again");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(listen, RETRY_MILLISECONDS);
  });
}

setInterval(() => {
  growOlder();
  const silent = heardAt === null ? 0 : (performance.now() - heardAt) / 1000;
  if (silent > SILENCE_SECONDS_MAX) connection("lost", "nothing heard, trying again");
}, 1000);

watchQuestions();
watchTimeline();
watchOrders(() => sites);
listen();
