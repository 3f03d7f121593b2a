// A list of any length: a table, one page after the other, with what is to be said where there is nothing to show.

import { fill, h, say } from "./dom.js";
import { count } from "./format.js";
import { failure, keepingFocus, skeleton } from "./parts.js";
import { plural } from "./words.js";

const RENEWED_MAX = 4; // pages

/** `columns`: {head, cell(row), kind}; on a narrow screen each row becomes a card, and roles keep it a table. */
export function table(caption, columns, rows, attributes = {}) {
  const head = columns.map((each) => h("th", { scope: "col", role: "columnheader", class: each.kind }, each.head));
  const body = h("tbody", { role: "rowgroup" });
  const lines = new Map();
  const node = h(
    "table",
    { role: "table", ...attributes },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    body,
  );

  /** Shows these rows; a row that is as it was keeps its elements. */
  const show = (shown, key = (row) => row.id) => {
    const wanted = shown.map((row, index) => {
      const name = String(key(row, index));
      const text = JSON.stringify(row);
      const known = lines.get(name);
      if (known?.text === text) return [name, known];
      const cells = columns.map((each, n) => {
        const inside = { role: n ? "cell" : "rowheader", class: each.kind, "data-head": each.head, scope: n ? null : "row" };
        return h(n ? "td" : "th", inside, each.cell(row));
      });
      return [name, { text, line: h("tr", { role: "row" }, cells) }];
    });
    lines.clear();
    for (const [name, each] of wanted) lines.set(name, each);
    const order = wanted.map(([, each]) => each.line);
    const same = order.length === body.children.length && order.every((line, n) => line === body.children[n]);
    if (!same) keepingFocus(body, () => body.replaceChildren(...order));
  };
  show(rows);
  return Object.assign(node, { show });
}

/** A paged list. `load(cursor, signal)` answers {rows, next}; `reload` begins anew, `renew` only where it is safe. */
export function listing({ caption, columns, load, nothing, signal, key = (row) => row.id, word = "row" }) {
  const place = h("div", { class: "listing" });
  const lines = table(caption, columns, []);
  const said = h("p", { class: "shown", role: "status" });
  const more = h("button", { type: "button", class: "button", onclick: () => again() }, "Load more");
  const foot = h("div", { class: "foot" }, said, more);
  let rows = [];
  let next = null;
  let pages = 0;
  let asking = new AbortController();

  signal.addEventListener("abort", () => asking.abort());

  const ask = async (cursor, { quiet = false } = {}) => {
    asking.abort();
    const mine = (asking = new AbortController());
    more.disabled = true;
    if (!quiet && !cursor) {
      if (pages) lines.dataset.waiting = "yes";
      else fill(place, skeleton());
    }
    try {
      let page = await load(cursor, mine.signal);
      while (!page.rows.length && page.next) page = await load(page.next, mine.signal); // nothing fits so far
      if (mine.signal.aborted || signal.aborted) return;
      rows = cursor ? rows.concat(page.rows) : page.rows;
      next = page.next ?? null;
      pages = cursor ? pages + 1 : 1;
      draw();
      if (cursor) place.querySelectorAll("tbody tr")[rows.length - page.rows.length]?.querySelector("a, button")?.focus();
    } catch (error) {
      if (error.name === "AbortError" || quiet) return;
      if (cursor) fill(foot, failure(error, () => ask(cursor)));
      else fill(place, failure(error, () => ask(null)));
      pages = cursor ? pages : 0;
    } finally {
      if (mine === asking) {
        more.disabled = false;
        delete lines.dataset.waiting;
      }
    }
  };

  /** Reads what is shown once more, of a lot only the first page, which then comes first; what fails changes nothing. */
  const renew = async () => {
    if (!pages || more.disabled) return;
    const read = pages > RENEWED_MAX ? 1 : pages;
    const mine = asking;
    const anew = [];
    let cursor = null;
    try {
      for (let page = 0; page < read && (page === 0 || cursor); page++) {
        const found = await load(cursor, mine.signal);
        anew.push(...found.rows);
        cursor = found.next ?? null;
      }
    } catch {
      return;
    }
    if (mine !== asking || mine.signal.aborted) return;
    const first = new Set(anew.map(key));
    if (read < pages) rows = anew.concat(rows.filter((row) => !first.has(key(row))));
    else [rows, next] = [anew, cursor];
    draw();
  };

  const draw = () => {
    lines.show(rows, key);
    more.hidden = next === null;
    say(said, rows.length ? `${count(rows.length)} ${plural(rows.length, word)}${next ? " so far" : ""}` : "");
    fill(foot, [said, more]);
    if (!rows.length) fill(place, nothing());
    else if (lines.parentNode !== place) fill(place, [lines, foot]);
  };

  const again = () => ask(next);
  return {
    node: place,
    ready: null,
    get rows() {
      return rows;
    },
    reload: () => ask(null),
    renew,
    /** Changes rows in place: `change(row)` answers the new one. */
    patch(change) {
      rows = rows.map(change);
      if (pages) draw();
    },
  };
}
