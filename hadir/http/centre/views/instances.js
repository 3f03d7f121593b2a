// The instances, as each says of itself.

import { h } from "../dom.js";
import { amount, count, milliseconds, short } from "../format.js";
import { table } from "../listing.js";
import { badge, empty, ticking } from "../parts.js";
import { INSTANCE } from "../words.js";

const SLOW_LAG_S = 0.1;

const COLUMNS = [
  { head: "Instance", cell: (row) => [h("span", { class: "name", title: row.id }, row.name ?? row.id), row.own && h("span", { class: "hint" }, " serves this page")] },
  { head: "State", cell: (row) => badge(INSTANCE[row.state] ?? { word: row.state ?? "Unknown", tone: "off" }) },
  { head: "Sockets", kind: "number", cell: (row) => count(row.sockets) },
  { head: "Beats/s", kind: "number", cell: (row) => amount(row.beats_per_s) },
  { head: "Loop lag", kind: "number", cell: (row) => h("span", { class: row.loop_lag_s > SLOW_LAG_S ? "slow" : null }, milliseconds(row.loop_lag_s)) },
  { head: "Up for", kind: "number", cell: (row) => ticking(row.started_at, "for") },
  { head: "Version", cell: (row) => row.version ?? short(row.id) },
];

export function instances() {
  const lines = table("Instances", COLUMNS, [], { class: "compact" });
  const none = empty("No instance is known", "They are listed a moment after they have started.");
  const node = h("section", { class: "card", "aria-labelledby": "instances-title" }, h("h2", { id: "instances-title" }, "Instances"), none, lines);
  return {
    node,
    show(rows, own) {
      none.hidden = rows.length > 0;
      lines.hidden = rows.length === 0;
      const told = ["id", "name", "version", "started_at", "state", "sockets", "beats_per_s", "loop_lag_s"];
      lines.show(rows.map((row) => ({ ...Object.fromEntries(told.map((name) => [name, row[name]])), own: row.id === own })));
    },
  };
}
