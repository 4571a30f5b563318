// What happened, from the member's file: the newest, or those of a site, a path or a name; asked again when there is more.

import { byId, empty, fill } from "./element.js";
import { eventTable } from "./sections.js";

const SHOWN = 100;
const PAUSE_MILLISECONDS = 500; // so that a burst of events is one question

let search = [], known = null, waiting = null;

async function load() {
  waiting = null;
  const query = new URLSearchParams([...search, ["limit", SHOWN]]);
  let found;
  try {
    found = await (await fetch(`api/v1/timeline?${query}`)).json();
  } catch {
    known = null; // asked again with the next connection
    return;
  }
  const { events = [], error } = found;
  const words = error ?? (events.length === SHOWN ? `The newest ${SHOWN}.` : "");
  byId("timeline-summary").classList.toggle("fault", error !== undefined);
  if (byId("timeline-summary").textContent !== words) byId("timeline-summary").textContent = words;
  fill(byId("timeline-answer"), [events.length ? eventTable("Timeline", events) : empty("Nothing.")]);
}

// `total` grows with each event; without it the timeline is asked for whatever is known.
export function showTimeline(total) {
  if (total === known && total !== undefined) return;
  if (total !== undefined) known = total;
  waiting ??= setTimeout(load, PAUSE_MILLISECONDS);
}

export function watchTimeline() {
  const form = byId("timeline");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search = [...new FormData(form)].map(([key, value]) => [key, value.trim()]).filter(([, value]) => value !== "");
    load();
  });
  form.addEventListener("reset", () => { search = []; load(); });
}
