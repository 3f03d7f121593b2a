// What happened, in order: entries under their day, each with its time, a dot in its tone, and a sentence.

import { fill, h } from "./dom.js";
import { day, exactly, time } from "./format.js";
import { empty, failure, skeleton } from "./parts.js";

/** `entry`: {at, tone, title, text, notes: [nodes], strong}. */
function line(entry) {
  return h(
    "li",
    { class: "event", "data-tone": entry.tone },
    h("time", { datetime: entry.at, title: exactly(entry.at) }, time(entry.at)),
    h("span", { class: "dot", "aria-hidden": "true" }),
    h(
      "div",
      { class: "event-body" },
      h("p", { class: "event-title" }, entry.title),
      entry.text && h("p", { class: "event-text" }, entry.text),
      entry.notes?.length ? h("p", { class: "event-notes" }, entry.notes) : null,
    ),
  );
}

/** A list of entries, with a heading wherever the day changes. */
export function timeline(entries) {
  const days = [];
  for (const entry of entries) {
    const name = day(entry.at);
    if (days.at(-1)?.name !== name) days.push({ name, entries: [] });
    days.at(-1).entries.push(entry);
  }
  return days.map(({ name, entries: own }) => [h("h3", { class: "day" }, name), h("ol", { class: "timeline" }, own.map(line))]);
}

/** Entries that follow each other and are alike, together: what happened to many at once is one line. */
export function gathered(entries, alike) {
  const groups = [];
  for (const entry of entries) {
    const last = groups.at(-1);
    if (last && alike(last[0], entry)) last.push(entry);
    else groups.push([entry]);
  }
  return groups;
}

const NAMED_MAX = 12;

/** Some of many nodes, with commas between, and how many more there are. */
export function some(nodes, word) {
  const named = nodes.slice(0, NAMED_MAX).flatMap((node, n) => (n ? [", ", node] : [node]));
  const more = nodes.length - NAMED_MAX;
  return more > 0 ? [named, ` and ${more} more ${word}`] : named;
}

/** A timeline that is read page by page. `load(cursor, signal)` answers {entries, next}. */
export function pagedTimeline({ load, nothing, signal }) {
  const place = h("div", { class: "history" });
  let entries = [];
  let pages = 0;

  const ask = async (cursor, quiet = false) => {
    if (!cursor && !quiet) fill(place, skeleton(4));
    try {
      const page = await load(cursor, signal);
      entries = cursor ? entries.concat(page.entries) : page.entries;
      pages = cursor ? pages + 1 : 1;
      draw(page.next);
    } catch (error) {
      if (error.name !== "AbortError" && !quiet) fill(place, failure(error, () => ask(cursor)));
    }
  };

  const draw = (next) => {
    if (!entries.length) return fill(place, empty(nothing));
    const more = next && h("button", { type: "button", class: "button", onclick: () => ask(next) }, "Earlier");
    return fill(place, [timeline(entries), more]);
  };

  return { node: place, ready: ask(null), renew: () => (pages <= 1 ? ask(null, true) : undefined) };
}
