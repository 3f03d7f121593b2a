// What happened, in order: entries under their day, each with its time, a dot in its tone, and a sentence.

import { fill, h } from "./dom.js";
import { day, exactly, time } from "./format.js";
import { empty, failure, keepingFocus, skeleton } from "./parts.js";

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

function named(entry) {
  return `${entry.at} ${entry.kind ?? entry.what} ${entry.subject ?? ""}`;
}

/** The newest page in front of what was read before; null where they do not touch, as much happened in between. */
export function inFront(page, entries) {
  const oldest = page.at(-1);
  const from = oldest ? entries.findIndex((each) => named(each) === named(oldest)) : -1;
  return from < 0 ? null : page.concat(entries.slice(from + 1));
}

/**
 * A timeline that is read page by page. `load(cursor, signal)` answers {entries, next}; `told(entries)` makes of all of
 * them what is shown. One request at a time: what somebody asks for comes before what is only renewed.
 */
export function pagedTimeline({ load, told, nothing, signal }) {
  const place = h("div", { class: "history" });
  const list = h("div", {});
  const earlier = h("button", { type: "button", class: "button", onclick: () => ask(next) }, "Earlier");
  let entries = [];
  let next = null;
  let pages = 0;
  let shown = null;
  let asking = null;
  let again = false;

  signal.addEventListener("abort", () => asking?.abort());

  const read = async (cursor, take, refused) => {
    asking?.abort();
    const mine = (asking = new AbortController());
    try {
      const page = await load(cursor, mine.signal);
      if (mine === asking && !mine.signal.aborted) take(page);
    } catch (error) {
      if (error.name !== "AbortError") refused(error);
    } finally {
      if (mine === asking) {
        asking = null;
        earlier.disabled = false;
        if (again && !signal.aborted) renew();
      }
    }
  };

  const ask = async (cursor) => {
    const was = document.activeElement === earlier;
    const known = entries.length;
    earlier.disabled = true;
    if (cursor) fill(place, [list, earlier]);
    else fill(place, skeleton(4));
    const take = (page) => {
      entries = cursor ? entries.concat(page.entries) : page.entries;
      next = page.next ?? null;
      pages = cursor ? pages + 1 : 1;
      draw();
      if (!was) return;
      const events = [...list.querySelectorAll(".event")];
      const first = events.find((each) => each.querySelector("time").dateTime === entries[known]?.at) ?? events.at(-1);
      first.tabIndex = -1;
      first.focus();
    };
    await read(cursor, take, (error) => fill(place, [cursor && list, failure(error, () => ask(cursor))]));
  };

  const renew = async () => {
    again = asking !== null;
    if (again || !pages) return;
    await read(null, (page) => {
      const merged = pages > 1 ? inFront(page.entries, entries) : null;
      entries = merged ?? page.entries;
      if (!merged) [pages, next] = [1, page.next ?? null];
      draw();
    }, () => {}); // what was read stays
  };

  const draw = () => {
    const text = JSON.stringify(entries);
    earlier.hidden = next === null;
    if (text !== shown) keepingFocus(list, () => fill(list, timeline(told(entries))));
    shown = text;
    if (!entries.length) fill(place, empty(nothing));
    else if (list.parentNode !== place || earlier.parentNode !== place) fill(place, [list, earlier]);
  };

  return { node: place, ready: ask(null), renew };
}
