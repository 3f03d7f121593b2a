// Pairings: who waits now, and what became of those who asked.

import { get } from "../api.js";
import { h } from "../dom.js";
import { between, duration, short } from "../format.js";
import { altered, fresh, tells } from "../fresh.js";
import { listing } from "../listing.js";
import { badge, choice, empty, identity, ticking } from "../parts.js";
import { to } from "../router.js";
import { PAIRING } from "../words.js";

const PACE_MS = 2_000;
const STATES = [["searching", "Waiting"], ["accepted", "Accepted"], ["expired", "Nobody accepted"], ["cancelled", "Given up"], ["", "All"]];

const COLUMNS = [
  { head: "Pairing", cell: (row) => h("a", { class: "entity", href: to(`/pairings/${row.id}`) }, h("span", { class: "name" }, short(row.id)), row.reroute && h("span", { class: "hint" }, "reroute")) },
  { head: "State", cell: (row) => badge(PAIRING[row.status]) },
  { head: "Asked", kind: "number", cell: (row) => ticking(row.created_at) },
  { head: "Took", kind: "number", cell: (row) => (row.decided_at ? duration(between(row.created_at, row.decided_at)) : ticking(row.created_at, "for")) },
  { head: "Note", kind: "wide", cell: (row) => h("span", { class: "muted" }, row.note) },
  { head: "Customer", cell: (row) => identity(row.customer_id) },
  { head: "Mitra", cell: (row) => row.mitra_id && h("a", { href: to(`/mitras/${row.mitra_id}`) }, row.mitra_name || short(row.mitra_id)) },
];

export function pairings({ query, signal, setQuery }) {
  let status = query.get("status") ?? "searching";
  const list = listing({
    caption: "Pairings",
    columns: COLUMNS,
    word: "pairing",
    signal,
    load: async (cursor, abort) => {
      const page = await get("/pairings", { status, limit: 50, cursor }, abort);
      return { rows: page.pairings, next: page.next };
    },
    nothing: () => (status === "searching" ? empty("Nobody waits", "Customers who ask for a mitra appear here.") : empty("None of these", "Pairings are kept with what became of them.")),
  });
  const states = choice("State", STATES, status, (chosen) => {
    status = chosen;
    setQuery({ status: chosen || "all" });
    list.reload();
  });
  if (status === "all") {
    status = "";
    states.show("");
  }
  const moved = altered("pairings");
  fresh(list.renew, { signal, paceMs: PACE_MS, counts: (frame) => moved(frame) || tells(frame, "pairing") });

  const node = h(
    "div",
    { class: "page" },
    h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Pairings")),
    states,
    h("section", { class: "card flush", "aria-label": "Pairings found" }, list.node),
  );
  return { title: "Pairings", node, ready: list.reload() };
}
