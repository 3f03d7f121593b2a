// What is true now: every figure with its last hour, the instances, and what happens.

import { sparkline } from "../chart.js";
import { fill, h, say } from "../dom.js";
import { amount, count, duration } from "../format.js";
import { hour, total } from "../hour.js";
import { live } from "../live.js";
import { to } from "../router.js";
import { plural } from "../words.js";
import { feed } from "./feed.js";
import { instances } from "./instances.js";
import { standings } from "./standings.js";

/** The figures in their order: `series` names the plot, `value` and `more` are what is written. */
const PRESENCE = [
  { label: "Online", series: "online", tone: "online", href: to("/mitras", { state: "online" }), more: (view) => `${counted(total(view.instances, "sockets"), "socket")} open` },
  { label: "Available", series: "available", tone: "available", href: to("/mitras", { state: "available" }), more: (view) => part(view.counts?.available, view.counts?.online, "of online") },
  { label: "Busy", series: "busy", tone: "busy", href: to("/mitras", { state: "busy" }), more: (view) => part(view.counts?.busy, view.counts?.online, "of online") },
  { label: "Suspect", series: "suspect", tone: "suspect", href: to("/mitras", { state: "suspect" }), more: () => "connection in doubt" },
  { label: "Deactivated", series: "deactivated", tone: "off", href: to("/mitras", { state: "deactivated" }), more: () => "out of service" },
];
const WORK = [
  { label: "Pairings waiting", series: "waiting", tone: "waiting", href: to("/pairings", { status: "searching" }), value: (view) => view.pairings?.waiting, more: (view) => oldest(view.pairings) },
  { label: "Time to accept", series: "accept_p50_s", tone: "accept", href: to("/reports", { kind: "funnel" }), format: duration, value: (view) => view.pairings?.accept_p50_s, more: (view) => slowest(view.pairings) },
  { label: "Sessions active", series: "active", tone: "session", href: to("/sessions", { status: "active" }), value: (view) => view.sessions?.active, more: (view) => `${count(view.sessions?.ended)} ended in 24 h` },
  { label: "To be paid", series: "pending_payment", tone: "suspect", href: to("/sessions", { status: "pending_payment" }), value: (view) => view.sessions?.pending_payment, more: () => "waiting for the money" },
  { label: "Beats a second", series: "beats_per_s", tone: "accept", format: amount, value: (view) => total(view.instances, "beats_per_s"), more: (view) => `of ${counted(view.instances?.length ?? null, "instance")}` },
];

function counted(number, word) {
  return `${count(number)} ${plural(number, word)}`;
}

function part(some, all, of) {
  return all ? `${Math.round((100 * some) / all)} % ${of}` : of;
}

function oldest(pairings) {
  if (!pairings) return "not known now";
  return pairings.waiting && pairings.oldest_s !== null ? `the oldest for ${duration(pairings.oldest_s)}` : "nobody waits";
}

function slowest(pairings) {
  if (!pairings) return "not known now";
  return pairings.accept_p95_s === null ? "none in 15 min" : `95 % within ${duration(pairings.accept_p95_s)}`;
}

function tile(figure, signal) {
  const format = figure.format ?? count;
  const value = h("span", { class: "tile-value", "data-figure": figure.series });
  const more = h("span", { class: "tile-more" });
  const plot = sparkline({ label: figure.label, tone: figure.tone, format, signal, points: () => hour.points(figure.series) });
  const node = h(
    "a",
    { class: "tile", href: figure.href, "data-tone": figure.tone },
    h("span", { class: "tile-label" }, h("span", { class: "dot", "aria-hidden": "true" }), figure.label),
    value,
    more,
    plot,
  );
  return {
    node,
    show(view) {
      say(value, format(figure.value ? figure.value(view) : view.counts?.[figure.series]));
      say(more, figure.more(view));
    },
    draw: () => plot.draw(),
  };
}

export function overview({ signal }) {
  const tiles = [...PRESENCE, ...WORK].map((figure) => tile(figure, signal));
  const [presence, work] = [tiles.slice(0, PRESENCE.length), tiles.slice(PRESENCE.length)];
  const machines = instances();
  const states = standings();
  const happening = feed(signal);

  const show = () => {
    for (const each of tiles) each.show(live.view);
    machines.show(live.view.instances ?? [], live.instance);
    states.show(live.view.sessions);
    happening.show(live.activity);
  };
  let asked = 0;
  const draw = () => {
    if (asked) return;
    asked = requestAnimationFrame(() => {
      asked = 0;
      for (const each of tiles) each.draw();
    });
  };
  live.addEventListener("counts", show, { signal });
  hour.addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => cancelAnimationFrame(asked));
  show();
  draw();

  const node = fill(h("div", { class: "overview" }), [
    h("h1", { class: "visually-hidden", tabindex: "-1" }, "Overview"),
    h("section", { class: "tiles", "aria-label": "Presence" }, presence.map((each) => each.node)),
    h("section", { class: "tiles", "aria-label": "Work" }, work.map((each) => each.node)),
    h("div", { class: "columns" }, h("div", { class: "stack" }, machines.node, states.node), happening.node),
  ]);
  return { title: "Overview", node };
}
