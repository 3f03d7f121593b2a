// Plots, drawn by uPlot in the colours of the theme; each says in words what it shows.

import { h, say } from "./dom.js";
import { clock, count } from "./format.js";
import { HOUR_S } from "./hour.js";
import uPlot from "./vendor/uPlot.esm.js";

const SPOKEN_MS = 5_000;
const TIMES = [3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 28 * 86400]; // between marks
const STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat(); // whole numbers
const LEAST_S = 300;
const charts = new Set();

/** Colours come from the style sheet: with another theme all plots are drawn anew. */
const themes = new MutationObserver(() => {
  for (const each of charts) each.build();
});
themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Latest, least and most of a series, for those who do not see it. */
export function summary(values, format = count) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return "nothing recorded";
  const most = known.reduce((a, b) => Math.max(a, b));
  const least = known.reduce((a, b) => Math.min(a, b));
  return `latest ${format(known.at(-1))}, least ${format(least)}, most ${format(most)}`;
}

/** Keeps a uPlot the size of its place, and the colour of the theme, until the signal. */
function mounted(place, signal, options, data) {
  let plot = null;
  const entry = {
    build() {
      plot?.destroy();
      plot = place.clientWidth ? new uPlot({ ...options(), ...size() }, data(), place) : null;
    },
  };
  const size = () => ({ width: place.clientWidth, height: place.clientHeight });
  const sizes = new ResizeObserver(() => (plot ? plot.setSize(size()) : entry.build()));
  sizes.observe(place);
  charts.add(entry);
  signal.addEventListener("abort", () => {
    charts.delete(entry);
    sizes.disconnect();
    plot?.destroy();
  });
  return { draw: () => plot?.setData(data()) };
}

/** A small plot of the last hour, in the tone of its figure. `points()` answers [times, values]. */
export function sparkline({ label, tone, points, format, signal }) {
  const place = h("div", { class: "spark", role: "img", "aria-label": label });
  const options = () => ({
    padding: [4, 0, 0, 0],
    cursor: { show: false },
    legend: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: {
      x: { time: false, range: () => [beginning(...points()), clock.now() / 1000] },
      y: { range: (_, least, most) => around(least, most) },
    },
    series: [
      {},
      {
        stroke: colour(tone),
        width: 1.75,
        points: { show: false },
        fill: (plot) => {
          const shade = plot.ctx.createLinearGradient(0, 0, 0, plot.bbox.height);
          shade.addColorStop(0, faded(colour(tone), 0.28));
          shade.addColorStop(1, faded(colour(tone), 0));
          return shade;
        },
      },
    ],
  });
  const plot = mounted(place, signal, options, points);
  let spoken = 0;
  return Object.assign(place, {
    draw() {
      plot.draw();
      if (Date.now() - spoken < SPOKEN_MS) return;
      spoken = Date.now();
      place.setAttribute("aria-label", `${label}, the last hour: ${summary(points()[1], format)}`);
    },
  });
}

/** The last hour; of a system that is younger, all that is known, and five minutes at least. */
function beginning(at, values) {
  const now = clock.now() / 1000;
  const first = values.findIndex((value) => value !== null);
  return first < 0 ? now - HOUR_S : Math.min(now - LEAST_S, Math.max(now - HOUR_S, at[first]));
}

function around(least, most) {
  if (least === null || most === null) return [0, 1];
  const room = Math.max((most - least) * 0.15, most * 0.02, 0.5);
  return [Math.max(0, least - room * 2), most + room];
}

/** A colour of the style sheet (#rrggbb) with some of it left. */
function faded(hex, share) {
  return `${hex}${Math.round(share * 255).toString(16).padStart(2, "0")}`;
}

/**
 * A large plot with axes and a legend. `at`: epoch seconds; `lines`: [{label, tone, values, format, bars}].
 * Pointing at it says the values; a table beside it says them all.
 */
export function chart({ title, at, lines, timeZone, signal, step = 3600 }) {
  const place = h("div", { class: "chart", role: "img" });
  const spoken = lines.map((each) => `${each.label}: ${summary(each.values, each.format)}`);
  place.setAttribute("aria-label", `${title}. ${spoken.join(". ")}`);
  const readings = lines.map(() => h("span", { class: "reading" }));
  const when = h("span", { class: "reading" });
  const keys = lines.map((each, n) => h("li", { "data-tone": each.tone }, h("span", { class: "dot", "aria-hidden": "true" }), each.label, " ", readings[n]));
  const legend = h("ul", { class: "legend" }, keys, h("li", {}, when));
  const moment = new Intl.DateTimeFormat("en-GB", step < 86400
    ? { timeZone, weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }
    : { timeZone: "UTC", weekday: "short", day: "numeric", month: "short" });

  const point = (plot) => {
    const index = plot.cursor.idx;
    const known = index !== null && index !== undefined;
    say(when, known ? moment.format(new Date(at[index] * 1000)) : "");
    lines.forEach((each, n) => {
      const value = known ? each.values[index] : null;
      say(readings[n], value === null || value === undefined ? "" : (each.format ?? count)(value));
    });
  };
  const pad = at.length > 1 ? step / 2 : step;
  const clockTime = new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", minute: "2-digit" });
  const dayName = new Intl.DateTimeFormat("en-GB", { timeZone: step < 86400 ? timeZone : "UTC", day: "numeric", month: "short" });
  const marks = (_, splits, __, ___, apart) =>
    splits.map((seconds) => {
      const when = new Date(seconds * 1000);
      const hour = clockTime.format(when);
      return step >= 86400 || apart >= 86400 || hour === "00:00" ? dayName.format(when) : hour;
    });
  const axis = () => ({
    stroke: colour("muted"),
    font: "12px Inter, system-ui, sans-serif",
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
  });
  const options = () => ({
    padding: [12, 12, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    hooks: { setCursor: [point] },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), step < 86400 ? timeZone ?? "UTC" : "UTC"),
    scales: { x: { range: (_, first, last) => [first - pad, last + pad] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [{ ...axis(), values: marks, incrs: TIMES.filter((each) => each >= step), space: 64, size: 30 }, { ...axis(), size: 56, incrs: STEPS, values: (_, splits) => splits.map(lines.at(-1).format ?? count) }],
    series: [
      {},
      ...lines.map((each) => ({
        label: each.label,
        stroke: colour(each.tone),
        width: each.bars ? 0 : 2,
        fill: each.bars ? faded(colour(each.tone), 0.45) : undefined,
        paths: each.bars ? uPlot.paths.bars({ size: [0.6, 40] }) : undefined,
        points: { show: !each.bars && at.length < 40, size: 5, fill: colour(each.tone) },
      })),
    ],
  });
  mounted(place, signal, options, () => [at, ...lines.map((each) => each.values)]);
  return h("figure", { class: "figure" }, h("figcaption", {}, h("strong", {}, title), legend), place);
}
