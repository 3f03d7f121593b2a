// The audit log: every action of an operator, by whom, to what, when.

import { get } from "../api.js";
import { h } from "../dom.js";
import { exactly, stamp } from "../format.js";
import { fresh, tells } from "../fresh.js";
import { listing } from "../listing.js";
import { empty, identity } from "../parts.js";
import { ACTIONS, called, place } from "../words.js";

const TYPED_MS = 300;
const PACE_MS = 2_000;

function subject(row) {
  const kind = ACTIONS[row.action]?.kind ?? "";
  const href = place(kind, row.subject);
  const name = called(kind, row.subject);
  return [kind && kind !== "number" ? h("span", { class: "muted" }, `${kind} `) : "", href ? h("a", { href }, name) : name];
}

/** Details as words; what they are differs by action. */
function details(row) {
  return Object.entries(row.details ?? {})
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name.replaceAll("_", " ")}: ${value === "" ? "empty" : typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}

const COLUMNS = [
  { head: "When", cell: (row) => h("time", { datetime: row.at, title: exactly(row.at) }, stamp(row.at)) },
  { head: "Operator", cell: (row) => identity(row.actor) },
  { head: "Did", cell: (row) => h("span", { class: "name" }, ACTIONS[row.action]?.label ?? row.action) },
  { head: "To", cell: subject },
  { head: "Details", kind: "wide", cell: (row) => h("span", { class: "muted" }, details(row)) },
];

export function audit({ query, signal, setQuery }) {
  const asked = { actor: query.get("actor") ?? "", subject: query.get("subject") ?? "", action: query.get("action") ?? "" };
  const list = listing({
    caption: "Audit log",
    columns: COLUMNS,
    word: "action",
    signal,
    key: (row) => `${row.at} ${row.actor} ${row.action} ${row.subject}`,
    load: async (cursor, abort) => {
      const page = await get("/audit", { ...asked, limit: 50, cursor }, abort);
      return { rows: page.entries, next: page.next };
    },
    nothing: () => (Object.values(asked).some(Boolean) ? empty("No action fits", "Ids have to be whole here.") : empty("Nothing was done yet", "What operators do is kept here, with their names.")),
  });
  const change = (changes, replace) => {
    Object.assign(asked, changes);
    setQuery(asked, { replace });
    list.reload();
  };
  const typed = (name, label, first) => {
    const input = h("input", { class: "search", value: asked[name], placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false", "data-search": first });
    let typing = null; // its own: whoever types in the other box does not undo it
    input.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ [name]: input.value.trim() }, true), TYPED_MS);
    });
    signal.addEventListener("abort", () => clearTimeout(typing));
    return input;
  };
  fresh(list.renew, { signal, paceMs: PACE_MS, counts: (frame) => tells(frame, "operator") });
  const action = h("select", { "aria-label": "Action", onchange: () => change({ action: action.value }, false) }, h("option", { value: "" }, "Every action"), Object.entries(ACTIONS).map(([value, { label }]) => h("option", { value, selected: value === asked.action }, label)));

  const node = h(
    "div",
    { class: "page" },
    h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Audit log")),
    h("div", { class: "tools", role: "search" }, action, typed("actor", "Operator's id", true), typed("subject", "Id or setting it was done to", false)),
    h("section", { class: "card flush", "aria-label": "Actions found" }, list.node),
  );
  return { title: "Audit log", node, ready: list.reload() };
}
