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

/** Draws something anew; whoever was at its n-th link or control still is. */
export function keepingFocus(place, draw) {
  const stops = () => [...place.querySelectorAll("a, button, input, select, summary")];
  const index = stops().indexOf(document.activeElement);
  draw();
  if (index >= 0) stops()[index]?.focus({ preventScroll: true });
}

/** What is shown while something is asked for, then it, or why not, under `title`. `load(signal)` answers a node. */
export function arriving(load, signal, title = null) {
  const place = h("div", { class: "arriving" });
  const show = async (quiet) => {
    if (!quiet) fill(place, skeleton());
    try {
      const node = await load(signal);
      if (!signal.aborted) keepingFocus(place, () => fill(place, node));
    } catch (error) {
      if (error.name !== "AbortError" && !(quiet && error.status !== 404)) missing(error);
    }
  };
  const missing = (error) => fill(place, [title && h("h1", { tabindex: "-1" }, title), failure(error, () => show(false))]);
  const ready = show(false);
  return { node: place, ready, reload: () => show(true) };
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
