// What happens, newest first. Seen at once; said aloud in one sentence now and then, or nobody could listen.

import { fill, h, say } from "../dom.js";
import { duration, exactly, short } from "../format.js";
import { choice, empty, ticking } from "../parts.js";
import { to } from "../router.js";
import { ACTIONS, called, place, plural } from "../words.js";

const SHOWN = 40;
const SPEAK_MS = 15_000;
const KINDS = [["all", "All"], ["operator", "Operators"], ["pairing", "Pairings"], ["instance", "Instances"]];

function link(href, text) {
  return href ? h("a", { href }, text) : text;
}

const PAIRINGS = {
  created: (entry) => ({ tone: "waiting", words: ["A customer asks: ", pairingOf(entry)] }),
  accepted: (entry) => ({ tone: "available", words: [pairingOf(entry, "Pairing"), " accepted", taken(entry), mitraOf(entry)] }),
  expired: (entry) => ({ tone: "suspect", words: ["Nobody accepted ", pairingOf(entry), taken(entry)] }),
  cancelled: (entry) => ({ tone: "off", words: ["The customer gave up ", pairingOf(entry), taken(entry)] }),
};
const INSTANCES = {
  started: { tone: "available", words: "started" },
  stopped: { tone: "off", words: "stopped" },
  died: { tone: "danger", words: "died" },
};

function pairingOf(entry, word = "pairing") {
  return link(to(`/pairings/${entry.subject}`), `${word} ${short(entry.subject)}`);
}

function mitraOf(entry) {
  return entry.mitra_id ? [" by ", link(to(`/mitras/${entry.mitra_id}`), `mitra ${short(entry.mitra_id)}`)] : "";
}

function taken(entry) {
  return entry.took_s === null || entry.took_s === undefined ? "" : ` after ${duration(entry.took_s)}`;
}

function named(entry) {
  return `${entry.at} ${entry.kind} ${entry.what} ${entry.subject}`;
}

/** An entry as {tone, words}: words are text and links. */
function told(entry) {
  if (entry.kind === "pairing") return PAIRINGS[entry.what]?.(entry) ?? { tone: "off", words: [entry.what, " ", pairingOf(entry)] };
  if (entry.kind === "instance") {
    const { tone, words } = INSTANCES[entry.what] ?? { tone: "off", words: entry.what };
    return { tone, words: [h("span", { class: "name" }, entry.subject), ` ${words}`] };
  }
  const action = ACTIONS[entry.what] ?? { did: entry.what, kind: "" };
  const subject = called(action.kind, entry.subject);
  const what = action.kind === "mitra" ? `mitra ${subject}` : subject;
  return { tone: "operator", words: [`Operator ${short(entry.actor)} ${action.did} `, link(place(action.kind, entry.subject), what)] };
}

function line(entry) {
  const { tone, words } = told(entry);
  return h(
    "li",
    { "data-tone": tone, title: exactly(entry.at) },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", { class: "feed-words" }, words),
    ticking(entry.at),
  );
}

export function feed(signal) {
  let kind = "all";
  let entries = [];
  let held = false;
  let heard = null; // the newest that is said, or was there at the beginning
  const list = h("ol", { class: "feed", tabindex: "0", "aria-label": "What happens, newest first" });
  const aloud = h("p", { class: "visually-hidden", role: "status" });
  const lines = new Map();

  const draw = () => {
    if (held) return;
    const shown = entries.filter((each) => kind === "all" || each.kind === kind).slice(0, SHOWN);
    const known = new Map(lines);
    lines.clear();
    for (const entry of shown) {
      lines.set(named(entry), known.get(named(entry)) ?? line(entry));
    }
    const nodes = [...lines.values()];
    if (!nodes.length) fill(list, h("li", { class: "feed-empty" }, empty("Quiet", "What operators do, pairings and instances appear here.")));
    else if (nodes.length !== list.children.length || nodes.some((node, n) => node !== list.children[n])) list.replaceChildren(...nodes);
  };
  const hold = (value) => () => {
    held = value;
    node.classList.toggle("held", value);
    draw();
  };
  const speak = () => {
    const [latest] = entries;
    if (!latest || named(latest) === heard) return;
    const known = entries.findIndex((each) => named(each) === heard);
    const more = (known < 0 ? entries.length : known) - 1;
    heard = named(latest);
    const words = line(latest).querySelector(".feed-words").textContent;
    say(aloud, more ? `${words}, and ${more} more ${plural(more, "thing")}` : words);
  };
  const speaking = setInterval(speak, SPEAK_MS);
  signal.addEventListener("abort", () => clearInterval(speaking));

  const node = h(
    "section",
    { class: "card feed-card", "aria-labelledby": "feed-title" },
    h("div", { class: "card-head" }, h("h2", { id: "feed-title" }, "Activity"), h("span", { class: "hint held-hint", "aria-hidden": "true" }, "paused"), choice("Which activity", KINDS, kind, (chosen) => {
      kind = chosen;
      draw();
    })),
    list,
    aloud,
  );
  for (const [begin, end] of [["mouseenter", "mouseleave"], ["focusin", "focusout"]]) {
    list.addEventListener(begin, hold(true));
    list.addEventListener(end, hold(false));
  }
  return {
    node,
    show(newest) {
      entries = newest;
      heard ??= newest.length ? named(newest[0]) : "";
      draw();
    },
  };
}
