// Small parts that many views are made of.

import { fill, h, icon, say } from "./dom.js";
import { ago, between, clock, duration, exactly, NONE, short } from "./format.js";

/** A state: a dot in its tone, and the word that says the same. */
export function badge({ word, tone }) {
  return h("span", { class: "badge", "data-tone": tone }, h("span", { class: "dot", "aria-hidden": "true" }), word);
}

const TICKING = {
  ago: (at) => ago(at),
  for: (at) => duration(Math.floor(between(at))),
  left: (at) => {
    const left = (Date.parse(at) - clock.now()) / 1000;
    return left > 0 ? duration(Math.ceil(left)) : "over";
  },
};

/** A time that stays right: `ago`, `for` how long since, or how much is `left` until then. */
export function ticking(at, how = "ago") {
  if (!at) return NONE;
  return h("time", { datetime: at, title: exactly(at), "data-ticking": how }, TICKING[how](at));
}

setInterval(() => {
  for (const each of document.querySelectorAll("time[data-ticking]")) {
    say(each, TICKING[each.dataset.ticking](each.getAttribute("datetime")));
  }
}, 1_000);

/** Whether a text could be copied; the newer way is only there over TLS and on this very machine. */
async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const before = document.activeElement;
  const box = document.body.appendChild(h("textarea", { class: "visually-hidden" }));
  box.value = text;
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  before?.focus();
  return done;
}

/** An id, whole for those who copy it. */
export function identity(id) {
  if (!id) return NONE;
  const said = h("span", { class: "visually-hidden", role: "status" });
  const copy = async () => {
    const done = await copied(id);
    say(said, done ? "Copied" : "It could not be copied");
    button.dataset.copied = done ? "yes" : "no";
    setTimeout(() => delete button.dataset.copied, 1_500);
  };
  const button = h("button", { type: "button", class: "identity", title: `${id}: copy`, "aria-label": `${short(id)}: copy the whole id`, onclick: copy }, short(id));
  return h("span", {}, button, said);
}

/** A number as a part of the most that there is: `show(value, most)`. */
export function bar(label) {
  const filled = h("span", {});
  const node = h("span", { class: "bar", role: "meter", "aria-label": label, "aria-valuemin": "0" }, filled);
  const show = (value, most) => {
    filled.style.width = `${most ? (100 * Math.min(value, most)) / most : 0}%`;
    node.setAttribute("aria-valuemax", most);
    node.setAttribute("aria-valuenow", value);
    return node;
  };
  return Object.assign(node, { show });
}

/** What is known of one thing: [word, value] pairs; those without a value are left out. */
export function facts(pairs) {
  const known = pairs.filter(Boolean).filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "facts" }, known.map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value))));
}

export function card(title, ...children) {
  return h("section", { class: "card" }, title && h("h2", {}, title), children);
}

export function empty(title, text) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), text && h("p", {}, text));
}

/** Something failed: what, and the way to try again. */
export function failure(error, again) {
  return h(
    "div",
    { class: "failure", role: "alert" },
    h("p", {}, error.message),
    again && h("button", { type: "button", class: "button", onclick: again }, "Try again"),
  );
}

export function skeleton(lines = 6) {
  const rows = Array.from({ length: lines }, () => h("div", { class: "skeleton-line" }));
  return h("div", { class: "skeleton", role: "status" }, h("span", { class: "visually-hidden" }, "Loading"), rows);
}

/** One of several, each a button: `options` as [value, word]. `choose(value)` hears of it. */
export function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, word]) =>
    h("button", { type: "button", "data-value": value, "aria-pressed": String(value === chosen), onclick: () => pick(value) }, word),
  );
  const show = (value) => {
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.value === value));
  };
  const pick = (value) => {
    show(value);
    choose(value);
  };
  return Object.assign(h("div", { class: "choice", role: "group", "aria-label": label }, buttons), { show });
}

let numbered = 0;

/** An input with its label, a hint, and a place for what is wrong with it. */
export function field(label, input, hint = "") {
  const id = `field-${++numbered}`;
  const wrong = h("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const help = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-wrong${hint ? ` ${id}-hint` : ""}`);
  const node = h("div", { class: "field" }, h("label", { for: id }, label), input, help, wrong);
  const refuse = (text) => {
    say(wrong, text);
    wrong.hidden = !text;
    input.setAttribute("aria-invalid", String(Boolean(text)));
  };
  return { node, input, refuse };
}

/** The head of a page of one thing: the way back, its name and state, what can be done. */
export function heading({ back, title, state, more, actions }) {
  return h(
    "header",
    { class: "heading" },
    back && h("a", { class: "back", href: back.href }, icon("back"), back.word),
    h(
      "div",
      { class: "heading-row" },
      h("div", { class: "heading-title" }, h("h1", { tabindex: "-1" }, title), state, more),
      actions && h("div", { class: "actions" }, actions),
    ),
  );
}

let toasts = null;

/** Says that something was done, for a moment. */
export function toast(text) {
  if (!toasts?.isConnected) toasts = document.body.appendChild(h("div", { class: "toasts", role: "status" }));
  const shown = h("p", { class: "toast" }, text);
  toasts.append(shown);
  setTimeout(() => shown.remove(), 6_000);
}

/** What somebody who is at a link or a control knows it by. */
function known(stop) {
  const called = stop.getAttribute("href") ?? stop.getAttribute("aria-label") ?? stop.labels?.[0]?.textContent ?? stop.textContent;
  return `${stop.tagName} ${called}`;
}

/** Draws something anew; whoever was at a link or control of it is at the same, else at its like, else at the heading. */
export function keepingFocus(place, draw) {
  const before = document.activeElement;
  if (before === place || !place.contains(before)) return draw();
  const likes = () => [...place.querySelectorAll("a, button, input, select, textarea, summary")].filter((each) => known(each) === known(before));
  const rank = likes().indexOf(before); // an id that is there twice
  draw();
  const like = before.isConnected ? before : likes()[rank];
  (like ?? document.querySelector("main h1"))?.focus({ preventScroll: true });
}

/**
 * What is shown while something is asked for, then it, or why not, under `title`. `read(signal)` answers what `draw`
 * makes a node of, which is done again only where it is another. Two are never on their way: who asks meanwhile is
 * answered by one more, so that the newest is what stays.
 */
export function arriving({ read, draw, signal, title = null }) {
  const place = h("div", { class: "arriving" });
  let shown = null;
  let reading = null;
  let again = false;

  const load = async (quiet) => {
    if (!quiet) {
      shown = null;
      fill(place, skeleton());
    }
    try {
      const found = await read(signal);
      if (!signal.aborted) show(found);
    } catch (error) {
      if (error.name !== "AbortError" && !(quiet && error.status !== 404)) missing(error);
    }
  };
  const show = (found) => {
    const text = JSON.stringify(found);
    if (text === shown) return;
    shown = text;
    const node = draw(found);
    if (node !== place.firstChild) keepingFocus(place, () => fill(place, node));
  };
  const missing = (error) => {
    if (shown === error.message) return; // it is said once
    shown = error.message;
    fill(place, [title && h("h1", { tabindex: "-1" }, title), failure(error, () => start(false))]);
  };
  const start = async (quiet) => {
    reading = load(quiet);
    await reading;
    reading = null;
    if (!again || signal.aborted) return;
    again = false;
    await start(true);
  };
  const reload = async () => {
    if (reading) again = true;
    else await start(true);
  };
  return { node: place, ready: start(false), reload, poll: () => reading ?? reload() };
}

/** Calls `act` soon, and not again for `ms`; what asks meanwhile is answered by one more call. */
export function paced(act, ms, signal) {
  let last = 0;
  let timer = null;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    if (timer !== null || signal.aborted) return;
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      act();
    }, Math.max(0, last + ms - Date.now()));
  };
}
