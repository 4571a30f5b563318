// What an operator does here: drain and undrain, each confirmed and with a token, and the list of what was done.
// Law: the token is kept in this page's memory alone, and sent in a header, to this member only.

import { byId, cell, el, empty, fill, speak, table } from "./element.js";

const ALL = "*";
let token = "";
let order = null; // what the open dialog is about

const TEXTS = {
  drain: "Users are sent to other sites, by DNS at once and by BGP as its rules say. What is replicated does not change. It holds, over restarts too, until it is taken back.",
  undrain: "The site gets users again as soon as it is well.",
};

async function request(path, options) {
  try {
    const response = await fetch(`api/v1/${path}`, { ...options, headers: { Authorization: `Bearer ${token}` } });
    return await response.json();
  } catch (error) {
    return { error: `The member gave no answer (${error.message}).` };
  }
}

// ---- drain and undrain -------------------------------------------------------------------------------------------

function open(button, sites) {
  order = { verb: button.dataset.order, site: button.dataset.site };
  const { groups, drained } = sites.find((site) => site.name === order.site), verb = order.verb === "drain" ? "Drain" : "Undrain";
  const named = order.verb === "drain" ? Object.keys(groups).filter((group) => !drained.includes(group)) : drained.filter((group) => group !== ALL);
  const form = byId("order-form");
  byId("order-title").textContent = `${verb} ${order.site}?`;
  byId("order-text").textContent = TEXTS[order.verb];
  byId("order-fault").textContent = "";
  byId("order-confirm").textContent = `${verb} ${order.site}`;
  form.elements.group.replaceChildren(...[ALL, ...named].map((group) => el("option", { value: group }, group === ALL ? "all groups" : group)));
  form.elements.token.value = token;
  byId("order").showModal();
  form.elements.token.focus();
}

async function confirm(event) {
  event.preventDefault();
  const { elements } = byId("order-form"), { verb, site } = order;
  token = elements.token.value.trim();
  byId("order-confirm").disabled = true;
  const answer = await request(verb, { method: "POST", body: JSON.stringify({ site, group: elements.group.value }) });
  byId("order-confirm").disabled = false;
  if (answer.error !== undefined) {
    byId("order-fault").textContent = answer.error;
    elements.token.focus();
    return;
  }
  byId("order").close();
  speak(`${site} is ${verb === "drain" ? "drained" : "no longer drained"}`);
  if (byId("audit-answer").hasChildNodes()) showAudit();
}

// ---- what was done -----------------------------------------------------------------------------------------------

async function showAudit() {
  const { changes = [], error } = await request("audit?limit=100", {});
  byId("audit-summary").classList.toggle("fault", error !== undefined);
  byId("audit-summary").textContent = error ?? `The newest ${changes.length}.`;
  const rows = changes.map((each) => [
    el("td", { class: "nowrap" }, new Date(each.at).toLocaleString([], { hour12: false })), cell(each.who), cell(each.origin), cell(each.what),
    cell(each.order || "nothing more"), cell(each.outcome),
  ]);
  const shown = rows.length ? table("Changes by operators", ["time", "who", "from", "what", "with", "outcome"], rows) : empty("No change yet.");
  fill(byId("audit-answer"), error === undefined ? [shown] : []);
}

// `sites` gives them as they are shown now.
export function watchOrders(sites) {
  byId("sites").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-order]");
    if (button !== null) open(button, sites());
  });
  byId("order-form").addEventListener("submit", confirm);
  byId("order-cancel").addEventListener("click", () => byId("order").close());
  byId("audit").addEventListener("submit", (event) => {
    event.preventDefault();
    token = event.target.elements.token.value.trim();
    showAudit();
  });
}
