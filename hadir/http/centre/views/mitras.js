// Mitras: searched as one types, by state, a page at a time, and kept as they are now.

import { get } from "../api.js";
import { fill, h, icon, say } from "../dom.js";
import { count, short } from "../format.js";
import { fresh } from "../fresh.js";
import { listing } from "../listing.js";
import { live } from "../live.js";
import { badge, choice, empty, ticking } from "../parts.js";
import { to } from "../router.js";
import { reason, standing } from "../words.js";

const TYPED_MS = 250;
const PACE_MS = 3_000;
const STATES = [["", "All"], ["online", "Online"], ["available", "Available"], ["busy", "Busy"], ["suspect", "Suspect"], ["offline", "Offline"], ["deactivated", "Deactivated"]];
const SORTS = [["", "Usual order"], ["name", "By name"], ["changed", "Last changed first"]];

const COLUMNS = [
  { head: "Mitra", cell: (row) => h("a", { class: "entity", href: to(`/mitras/${row.id}`) }, h("span", { class: "name" }, row.display_name || "Without a name"), h("span", { class: "hint" }, short(row.id))) },
  { head: "State", cell: (row) => badge(standing(row)) },
  { head: "Why", kind: "wide", cell: (row) => h("span", { class: "muted" }, reason(row.reason)) },
  { head: "Sessions", kind: "number", cell: (row) => `${row.open_sessions} of ${row.max_sessions}` },
  { head: "Last beat", kind: "number", cell: (row) => ticking(row.last_heartbeat_at) },
  { head: "Changed", kind: "number", cell: (row) => ticking(row.changed_at) },
];

/** How many there are of a state, where it is counted: a suspect is counted online, but listed by itself. */
function tally(state) {
  const { counts } = live.view;
  return state === "online" && counts ? counts.online - counts.suspect : counts?.[state];
}

/** A row as a change of its mitra leaves it. */
function now(row, { state, is_active, reason: why, at, open_sessions, max_sessions }) {
  return { ...row, state, is_active, reason: why, changed_at: at, open_sessions, max_sessions };
}

export function mitras({ query, signal, setQuery }) {
  const asked = { q: query.get("q") ?? "", state: query.get("state") ?? "", sort: query.get("sort") ?? "" };
  const search = h("input", { type: "search", class: "search", value: asked.q, placeholder: "Name or id", "aria-label": "Search mitras by name or id", maxlength: "100", autocomplete: "off", spellcheck: "false", "data-search": true });
  const sort = h("select", { "aria-label": "Order", onchange: () => change({ sort: sort.value }) }, SORTS.map(([value, word]) => h("option", { value, selected: value === asked.sort }, word)));
  const states = choice("State", STATES, asked.state, (state) => change({ state }));

  const list = listing({
    caption: "Mitras",
    columns: COLUMNS,
    word: "mitra",
    signal,
    load: async (cursor, abort) => {
      const page = await get("/mitras", { ...asked, limit: 50, cursor }, abort);
      return { rows: page.mitras, next: page.next };
    },
    nothing: () =>
      asked.q || asked.state
        ? empty("No mitra fits", "Search by how a name begins, or by the beginning of an id; or choose another state.")
        : empty("No mitras yet", "They appear here when other services create them."),
  });

  const change = (changes, options) => {
    Object.assign(asked, changes);
    setQuery(asked, options);
    list.ready = list.reload();
  };
  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ q: search.value.trim() }, { replace: true }), TYPED_MS);
  });
  signal.addEventListener("abort", () => clearTimeout(typing));

  const total = () => {
    for (const button of states.querySelectorAll("button")) {
      const known = tally(button.dataset.value);
      const [, word] = STATES.find(([value]) => value === button.dataset.value);
      if (Number.isFinite(known)) fill(button, [word, h("span", { class: "tally" }, count(known))]);
      else say(button, word);
    }
  };
  total();
  live.addEventListener("counts", total, { signal });
  /** Shows what became of rows that are here; answers whether there is more than was named. */
  const moved = ({ changes, more }) => {
    const news = new Map(changes.map((each) => [each.mitra_id, each]));
    if (list.rows.some((row) => news.has(row.id))) list.patch((row) => (news.has(row.id) ? now(row, news.get(row.id)) : row));
    return more > 0;
  };
  fresh(list.renew, { signal, paceMs: PACE_MS, presence: moved });

  const node = h(
    "div",
    { class: "page" },
    h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Mitras")),
    h("div", { class: "tools", role: "search" }, h("div", { class: "search-box" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), sort),
    states,
    h("section", { class: "card flush", "aria-label": "Mitras found" }, list.node),
  );
  list.ready = list.reload();
  return { title: "Mitras", node, ready: list.ready };
}
