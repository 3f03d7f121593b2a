// One pairing: its waves, who was offered it, what each answered, and how long everything took.

import { get, path } from "../api.js";
import { fill, h } from "../dom.js";
import { between, count, duration, milliseconds, short, stamp } from "../format.js";
import { fresh } from "../fresh.js";
import { arriving, badge, bar, card, empty, facts, heading, identity, ticking } from "../parts.js";
import { to } from "../router.js";
import { gathered, some, timeline } from "../timeline.js";
import { PAIRING, plural } from "../words.js";

const LOOK_MS = 2_000;
const KINDS = {
  created: { tone: "waiting", title: "The customer asked" },
  wave: { tone: "session", title: "A wave went out" },
  offered: { tone: "session", title: "Offered" },
  delivered: { tone: "session", title: "Delivered" },
  seen: { tone: "busy", title: "Seen" },
  declined: { tone: "suspect", title: "Declined" },
  accepted: { tone: "available", title: "Accepted" },
  withdrawn: { tone: "off", title: "Withdrawn" },
  taken: { tone: "off", title: "Another was first" },
  expired: { tone: "suspect", title: "Nobody answered in time" },
  cancelled: { tone: "off", title: "The customer gave up" },
  decided: { tone: "available", title: "Decided" },
};
const STEPS = [["offered", "Offered"], ["delivered", "Delivered"], ["seen", "Seen"], ["declined", "Declined"], ["accepted", "Accepted"]];

function alike(a, b) {
  return a.what === b.what && a.wave === b.wave && a.mitra_id && b.mitra_id;
}

function soon(seconds) {
  return seconds < 1 ? milliseconds(seconds) : duration(seconds);
}

/** What happened to one mitra, or to several of a wave one after the other. */
function told(group) {
  const [entry] = group;
  const last = group.at(-1);
  const { tone, title } = KINDS[entry.what] ?? { tone: "off", title: entry.what };
  const who = group.filter((each) => each.mitra_id).map((each) => h("a", { href: to(`/mitras/${each.mitra_id}`) }, each.display_name || `mitra ${short(each.mitra_id)}`));
  const many = entry.count !== null && entry.count !== undefined ? `${count(entry.count)} ${plural(entry.count, "mitra")}` : null;
  const [first, until] = [soon(entry.after_s), soon(last.after_s)];
  const notes = [
    first === until ? `after ${first}` : `after ${first} to ${until}`,
    group.length > 1 && `${group.length} mitras`,
    entry.wave && entry.what !== "wave" && `wave ${entry.wave}`,
  ].filter(Boolean);
  return {
    at: entry.at,
    tone,
    title: entry.what === "wave" ? `Wave ${entry.wave}` : title,
    text: who.length ? some(who, "mitras") : many,
    notes: notes.map((each) => h("span", {}, each)),
  };
}

/** How many reached each step: the steps side by side, each with its share of the offers. */
function steps(entries) {
  const reached = (what) => entries.filter((each) => each.what === what).reduce((sum, each) => sum + (each.count ?? 1), 0);
  const offered = reached("wave"); // of a large wave not every offer is listed
  return h("ol", { class: "steps" }, STEPS.map(([what, word]) => {
    const number = what === "offered" ? offered : reached(what);
    return h("li", { "data-tone": KINDS[what].tone }, h("span", { class: "steps-word" }, word), h("span", { class: "steps-number" }, count(number)), bar(word).show(number, offered));
  }));
}

function page({ pairing, entries }) {
  const waves = new Set(entries.map((each) => each.wave).filter(Boolean)).size;
  const state = PAIRING[pairing.status];
  return [
    heading({ back: { href: to("/pairings"), word: "Pairings" }, title: `Pairing ${short(pairing.id)}`, state: badge(state) }),
    card(
      null,
      facts([
        ["Id", identity(pairing.id)],
        ["Customer", identity(pairing.customer_id)],
        ["Asked", stamp(pairing.created_at)],
        pairing.decided_at ? ["Took", duration(between(pairing.created_at, pairing.decided_at))] : ["Waits for", ticking(pairing.created_at, "for")],
        !pairing.decided_at && ["Time left", ticking(pairing.expires_at, "left")],
        ["Waves", count(waves)],
        ["Mitra", pairing.mitra_id && h("a", { href: to(`/mitras/${pairing.mitra_id}`) }, pairing.mitra_name || short(pairing.mitra_id))],
        ["Session", pairing.session_id && h("a", { href: to(`/sessions/${pairing.session_id}`) }, short(pairing.session_id))],
        ["Searches for", pairing.reroute ? "another mitra of a session" : null],
        ["Note", pairing.note || null],
      ]),
      steps(entries),
    ),
    card("What happened", entries.length ? timeline(gathered(entries, alike).map(told)) : empty("Nothing has happened yet")),
  ];
}

export function pairing({ params, signal, retitle }) {
  let open = true;
  const state = arriving({
    title: "Pairing",
    signal,
    read: (abort) => get(path.pairing(params.id, "/timeline"), {}, abort),
    draw: (found) => {
      open = found.pairing.status === "searching";
      retitle(`Pairing ${short(params.id)}`);
      return page(found);
    },
  });
  fresh(state.reload, { signal, paceMs: LOOK_MS });
  const looking = setInterval(() => open && !document.hidden && state.poll(), LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(looking));
  return { title: "Pairing", node: fill(h("div", { class: "page" }), state.node), ready: state.ready };
}
