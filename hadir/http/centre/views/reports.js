// Reports over days: what mitras are paid for, supply against demand, and what became of offers.

import { download, get } from "../api.js";
import { chart } from "../chart.js";
import { fill, h, icon, say } from "../dom.js";
import { amount, count, date, duration, NONE, short } from "../format.js";
import { listing } from "../listing.js";
import { choice, empty, failure } from "../parts.js";
import { to } from "../router.js";

const DAYS_MAX = 92;
const ROWS = 100;
const OWN_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const RANGES = [[1, "Today"], [7, "7 days"], [30, "30 days"], [DAYS_MAX, `${DAYS_MAX} days`]];

const midnight = (row) => Date.parse(`${row.day}T00:00:00Z`) / 1000;
const hours = (seconds) => (seconds === null ? NONE : `${amount(seconds / 3600)} h`);
const number = (head, name, format = count) => ({ head, kind: "number", cell: (row) => format(row[name]) });
const line = (label, tone, rows, name, more = {}) => ({ label, tone, values: rows.map((row) => row[name]), ...more });

function dayName(text) {
  return new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }).format(new Date(`${text}T00:00:00Z`));
}

function hourName(text, timeZone) {
  return new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone }).format(new Date(text));
}

/** The date so many days from today, where the report's days begin; in a zone that there is not, where one is. */
function day(fromNow, timeZone) {
  try {
    return date(fromNow, timeZone);
  } catch {
    return date(fromNow); // the server says what is wrong with it
  }
}

const total = (rows, name) => rows.reduce((sum, row) => sum + (row[name] ?? 0), 0);
const share = (some, all) => (all ? `${Math.round((100 * some) / all)} %` : NONE);

/** Each report: its table, its plot, and its figures in one line. `paged`: the server hands it out by cursor. */
const REPORTS = {
  "online-time": {
    title: "Online time",
    about: "How long each mitra was online, by day: what is paid for. A suspicion that ended well counts; one that did not ends at the last sign of life.",
    paged: true,
    columns: () => [
      { head: "Day", cell: (row) => h("span", { class: "name" }, dayName(row.day)) },
      { head: "Mitra", cell: (row) => h("a", { href: to(`/mitras/${row.mitra_id}`) }, row.display_name || short(row.mitra_id)) },
      number("Online", "online_s", duration),
      number("Intervals", "intervals"),
    ],
    key: (row) => `${row.day} ${row.mitra_id}`,
    plot(rows, { from, to: until }) {
      const sums = new Map();
      for (let at = midnight({ day: from }); at <= midnight({ day: until }); at += 86400) sums.set(at, 0);
      for (const row of rows) sums.set(midnight(row), (sums.get(midnight(row)) ?? 0) + row.online_s / 3600);
      const line = { label: "Online", tone: "online", values: [...sums.values()], format: (value) => `${amount(value)} h`, bars: true };
      return { title: "Online time by day", at: [...sums.keys()], step: 86400, lines: [line] };
    },
    figures: (rows) => [["Online", hours(total(rows, "online_s"))], ["Mitras", count(new Set(rows.map((row) => row.mitra_id)).size)], ["Days", count(new Set(rows.map((row) => row.day)).size)]],
  },
  hours: {
    title: "Supply and demand",
    about: "Who was available and what was asked for, hour by hour.",
    columns: ({ tz }) => [
      { head: "Hour", cell: (row) => h("span", { class: "name" }, hourName(row.hour, tz)) },
      number("Online", "online_avg", amount),
      number("Available", "available_avg", amount),
      number("Least available", "available_min"),
      number("Busy", "busy_avg", amount),
      number("Asked", "asked"),
      number("Accepted", "accepted"),
      number("Expired", "expired"),
      number("Cancelled", "cancelled"),
      number("Time to accept", "accept_p50_s", duration),
    ],
    key: (row) => row.hour,
    plot: (rows) => ({
      title: "Available mitras against pairings asked for",
      at: rows.map((row) => Date.parse(row.hour) / 1000),
      lines: [line("Asked", "waiting", rows, "asked", { bars: true }), line("Online", "online", rows, "online_avg", { format: amount }), line("Available", "available", rows, "available_avg", { format: amount }), line("Busy", "busy", rows, "busy_avg", { format: amount })],
    }),
    figures: (rows) => [["Asked", count(total(rows, "asked"))], ["Accepted", share(total(rows, "accepted"), total(rows, "asked"))], ["Expired", count(total(rows, "expired"))], ["Cancelled", count(total(rows, "cancelled"))]],
  },
  funnel: {
    title: "Offer funnel",
    about: "What became of pairings and of the offers that were made for them, by day.",
    columns: () => [
      { head: "Day", cell: (row) => h("span", { class: "name" }, dayName(row.day)) },
      number("Pairings", "pairings"),
      number("Accepted", "accepted"),
      number("Expired", "expired"),
      number("Cancelled", "cancelled"),
      number("Offers", "offers"),
      number("Delivered", "delivered"),
      number("Seen", "seen"),
      number("Declined", "declined"),
      number("Time to accept", "accept_p50_s", duration),
      number("95 % within", "accept_p95_s", duration),
      number("Waves", "waves_avg", amount),
    ],
    key: (row) => row.day,
    plot: (rows) => ({
      title: "Pairings by day",
      at: rows.map(midnight),
      step: 86400,
      lines: [line("Asked", "waiting", rows, "pairings", { bars: true }), line("Accepted", "available", rows, "accepted"), line("Nobody accepted", "suspect", rows, "expired")],
    }),
    figures: (rows) => [["Pairings", count(total(rows, "pairings"))], ["Accepted", share(total(rows, "accepted"), total(rows, "pairings"))], ["Offers delivered", share(total(rows, "delivered"), total(rows, "offers"))], ["Offers seen", share(total(rows, "seen"), total(rows, "offers"))], ["Offers declined", share(total(rows, "declined"), total(rows, "offers"))]],
  },
};

export function reports({ query, signal, setQuery }) {
  const tz = query.get("tz") || OWN_ZONE;
  const asked = {
    kind: query.get("kind") in REPORTS ? query.get("kind") : "hours",
    tz,
    from: query.get("from") || day(-6, tz),
    to: query.get("to") || day(0, tz),
    mitra_id: query.get("mitra_id") ?? "",
  };
  const about = h("p", { class: "muted" });
  const figures = h("dl", { class: "strip" });
  const partly = h("p", { class: "hint", role: "status", hidden: true });
  const plots = h("div", {});
  const place = h("div", {});
  let drawing = new AbortController();
  signal.addEventListener("abort", () => drawing.abort());

  const wanted = () => ({ from: asked.from, to: asked.to, tz: asked.tz, mitra_id: asked.kind === "online-time" ? asked.mitra_id : null });

  const draw = (report, rows, whole = true) => {
    drawing.abort();
    drawing = new AbortController();
    fill(figures, rows.length ? report.figures(rows).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value))) : []);
    partly.hidden = whole;
    say(partly, whole ? "" : `These are the sums of the first ${count(rows.length)} rows: load the rest for all of them, and the plot.`);
    const plotted = whole && rows.length > 0;
    fill(plots, plotted ? chart({ ...report.plot(rows, asked), timeZone: asked.tz, signal: drawing.signal }) : []);
  };

  const show = () => {
    const report = REPORTS[asked.kind];
    fill(about, report.about);
    mitra.node.hidden = asked.kind !== "online-time";
    let rows = [];
    const page = async (cursor, abort) => {
      if (cursor && !report.paged) return { rows: rows.slice(cursor, cursor + ROWS), next: cursor + ROWS < rows.length ? cursor + ROWS : null };
      const found = await get(`/reports/${asked.kind}`, { ...wanted(), ...(report.paged ? { limit: ROWS, cursor } : {}) }, abort);
      if (!report.paged) found.rows.reverse(); // the latest are looked at first
      rows = cursor ? rows.concat(found.rows) : found.rows;
      draw(report, report.paged ? rows : rows.toReversed(), !found.next);
      if (report.paged) return { rows: found.rows, next: found.next };
      return { rows: rows.slice(0, ROWS), next: rows.length > ROWS ? ROWS : null };
    };
    const list = listing({
      caption: report.title,
      columns: report.columns(asked),
      load: page,
      nothing: () => empty("Nothing to report", "There is nothing on record for these days."),
      key: report.key,
      signal,
    });
    draw(report, []);
    fill(place, h("section", { class: "card flush", "aria-label": report.title }, list.node));
    return list.reload();
  };

  const change = (changes) => {
    Object.assign(asked, changes);
    setQuery(asked);
    ranges.show(String(range()));
    return show();
  };
  const range = () => (asked.to === day(0, asked.tz) ? 1 + Math.round((Date.parse(asked.to) - Date.parse(asked.from)) / 86400000) : "");

  const input = (name, label, attributes, otherwise = "") => {
    const node = h("label", { class: "labelled" }, label, h("input", { value: asked[name], ...attributes, onchange: (event) => {
      event.target.value = event.target.value.trim() || otherwise;
      change({ [name]: event.target.value });
    } }));
    return { node, input: node.querySelector("input") };
  };
  const from = input("from", "From", { type: "date", required: true });
  const until = input("to", "To", { type: "date", required: true });
  const zones = h("datalist", { id: "zones" }, (Intl.supportedValuesOf?.("timeZone") ?? [OWN_ZONE]).map((value) => h("option", { value })));
  const zone = input("tz", "Time zone", { list: "zones", autocomplete: "off", spellcheck: "false" }, OWN_ZONE);
  const mitra = input("mitra_id", "Mitra's id", { placeholder: "every mitra", autocomplete: "off", spellcheck: "false", "data-search": true });
  const ranges = choice("Days", RANGES.map(([days, word]) => [String(days), word]), String(range()), (days) => {
    [from.input.value, until.input.value] = [day(1 - Number(days), asked.tz), day(0, asked.tz)];
    change({ from: from.input.value, to: until.input.value });
  });
  const kinds = choice("Report", Object.entries(REPORTS).map(([kind, { title }]) => [kind, title]), asked.kind, (kind) => change({ kind }));

  const wrong = h("div", {});
  const save = h("button", { type: "button", class: "button primary", onclick: async () => {
    fill(wrong, []);
    save.disabled = true;
    try {
      await download(`/reports/${asked.kind}`, { ...wanted(), format: "csv" }, `${asked.kind}_${asked.from}_${asked.to}.csv`);
    } catch (error) {
      fill(wrong, failure(error));
    } finally {
      save.disabled = false;
    }
  } }, icon("download"), "Download CSV");

  const node = h(
    "div",
    { class: "page" },
    h("header", { class: "heading" }, h("div", { class: "heading-row" }, h("h1", { tabindex: "-1" }, "Reports"), h("div", { class: "actions" }, save))),
    h("div", { class: "tools" }, kinds, ranges),
    h("div", { class: "tools" }, from.node, until.node, zone.node, zones, mitra.node),
    wrong,
    about,
    h("section", { class: "card report", "aria-label": "At a glance" }, figures, partly, plots),
    place,
  );
  return { title: "Reports", node, ready: show() };
}
