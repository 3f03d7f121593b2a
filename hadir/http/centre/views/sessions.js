// Sessions: those that run, those that wait for money, and those that are over.

import { get } from "../api.js";
import { h } from "../dom.js";
import { count, short } from "../format.js";
import { altered, fresh, tells } from "../fresh.js";
import { listing } from "../listing.js";
import { badge, choice, empty, identity, ticking } from "../parts.js";
import { to } from "../router.js";
import { SESSION } from "../words.js";

const PACE_MS = 2_000;
const POLL_MS = 10_000;
const STATES = [["active", "Active"], ["pending_payment", "To be paid"], ["ended", "Ended"], ["expired", "Not paid"], ["cancelled", "Cancelled"], ["", "All"]];

const COLUMNS = [
  { head: "Session", cell: (row) => h("a", { class: "entity", href: to(`/sessions/${row.id}`) }, h("span", { class: "name" }, short(row.id))) },
  { head: "State", cell: (row) => badge(SESSION[row.status]) },
  { head: "Mitra", cell: (row) => [h("a", { href: to(`/mitras/${row.mitra_id}`) }, row.mitra_name || short(row.mitra_id)), isOpen(row) && !row.mitra_reachable && h("span", { class: "hint" }, " not online")] },
  { head: "Customer", cell: (row) => identity(row.customer_id) },
  { head: "Messages", kind: "number", cell: (row) => count(row.messages) },
  { head: "Created", kind: "number", cell: (row) => ticking(row.created_at) },
  { head: "Left", kind: "number", cell: (row) => (isOpen(row) ? ticking(row.expires_at ?? row.payment_due_at, "left") : ticking(row.ended_at)) },
];

function isOpen(row) {
  return row.status === "active" || row.status === "pending_payment";
}

export function sessions({ query, signal, setQuery }) {
  let status = query.get("status") ?? "active";
  if (status === "all") status = "";
  const list = listing({
    caption: "Sessions",
    columns: COLUMNS,
    word: "session",
    signal,
    load: async (cursor, abort) => {
      const page = await get("/sessions", { status, limit: 50, cursor }, abort);
      return { rows: page.sessions, next: page.next };
    },
    nothing: () => (status === "active" ? empty("No session runs", "They begin when a mitra has accepted and the customer has paid.") : empty("None of these")),
  });
  const states = choice("State", STATES, status, (chosen) => {
    status = chosen;
    setQuery({ status: chosen || "all" });
    list.reload();
  });
  const moved = altered("sessions");
  fresh(list.renew, {
    signal,
    paceMs: PACE_MS,
    pollMs: POLL_MS, // chats are told to nobody
    counts: (frame) => moved(frame) || tells(frame, "pairing"),
    presence: ({ changes, more }) => more > 0 || list.rows.some((row) => changes.some((each) => each.mitra_id === row.mitra_id)),
  });

  const node = h(
    "div",
    { class: "page" },
    h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Sessions")),
    states,
    h("section", { class: "card flush", "aria-label": "Sessions found" }, list.node),
  );
  return { title: "Sessions", node, ready: list.reload() };
}
