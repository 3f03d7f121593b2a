// One session: how it stands, its money, how it came about, and what an operator can do about it.

import { get, path, post } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { count, exactly, short, stamp } from "../format.js";
import { altered, fresh, tells } from "../fresh.js";
import { table } from "../listing.js";
import { arriving, badge, card, empty, facts, field, heading, identity, ticking } from "../parts.js";
import { to } from "../router.js";
import { session as viewer } from "../session.js";
import { pagedTimeline } from "../timeline.js";
import { PAIRING, SESSION } from "../words.js";

const PACE_MS = 1_000;
const POLL_MS = 10_000;
const RUPIAH = new Intl.NumberFormat("id-ID", { style: "currency", currency: "IDR", maximumFractionDigits: 0 });
const RUPIAH_MAX = 1_000_000_000_000;
const PROVIDER = "xendit"; // how the payment provider is called where the others are operators
const MONEY = {
  paid: { word: "Paid", tone: "available" },
  expired: { word: "Expired", tone: "off" },
  refund_due: { word: "To be refunded", tone: "danger" },
  unmatched: { word: "Unmatched", tone: "danger" },
};
const ENDED = { customer: "its customer ended it", mitra: "its mitra ended it", operator: "an operator ended it", payment_timeout: "it was not paid for in time", time: "its time was over", external: "another program ended it" };
const TONES = { created: "waiting", paid: "available", started: "available", extended: "available", rerouting: "waiting", rerouted: "session", not_rerouted: "suspect", refund_due: "danger", end_session: "operator", reroute: "operator", ended: "off", expired: "danger", cancelled: "off" };

const PAYMENTS = [
  { head: "Payment", cell: (row) => h("span", { class: "name", title: row.invoice_id }, row.extension ? `Extension ${row.extension}` : "The session") },
  { head: "State", cell: (row) => badge(MONEY[row.state] ?? { word: row.state, tone: "off" }) },
  { head: "Amount", kind: "number", cell: (row) => (row.amount === null ? "–" : RUPIAH.format(row.amount)) },
  { head: "When", kind: "number", cell: (row) => ticking(row.paid_at ?? row.changed_at) },
  { head: "By", cell: (row) => (row.actor === null ? "–" : row.actor === PROVIDER ? "the provider" : `operator ${short(row.actor)}`) },
];
const PAIRINGS = [
  { head: "Pairing", cell: (row) => h("a", { href: to(`/pairings/${row.id}`) }, short(row.id)) },
  { head: "State", cell: (row) => badge(PAIRING[row.status]) },
  { head: "For", cell: (row) => (row.reroute ? "another mitra" : "the session") },
  { head: "Asked", kind: "number", cell: (row) => ticking(row.created_at) },
];

function told(entry) {
  const notes = [
    entry.actor && `by operator ${short(entry.actor)}`,
    entry.mitra_id && h("a", { href: to(`/mitras/${entry.mitra_id}`) }, entry.display_name || `mitra ${short(entry.mitra_id)}`),
  ].filter(Boolean);
  const word = entry.what.replaceAll("_", " ");
  return { at: entry.at, tone: TONES[entry.what] ?? "session", title: word[0].toUpperCase() + word.slice(1), text: entry.why, notes: notes.map((each) => h("span", {}, each)) };
}

function whole(input) {
  const text = input.value.trim();
  if (text === "") return undefined;
  if (!/^\d+$/.test(text) || Number(text) > RUPIAH_MAX) throw new Error("A whole number of rupiah, or nothing.");
  return Number(text);
}

function end(found) {
  const unpaid = found.status === "pending_payment";
  return ask({
    title: unpaid ? "Cancel this session?" : "End this session?",
    text: `The session of ${found.mitra_name || "its mitra"} with its customer is over at once.`,
    consequences: [
      unpaid ? "It was not paid for; a payment that still comes has to be refunded." : "What was paid for is not given back by this.",
      "Both are told, and the chat takes no more messages.",
      "The mitra can take other work.",
    ],
    confirm: unpaid ? "Cancel the session" : "End the session",
    danger: true,
    act: () => post(path.session(found.id, "/end")),
    done: "The session is over.",
  });
}

async function reroute(found) {
  await ask({
    title: "Search another mitra?",
    text: `The session stays with ${found.mitra_name || "its present mitra"} until another one accepts.`,
    consequences: ["Available mitras are offered it in waves, as a new pairing is.", "Its payment and its end stay as they are."],
    confirm: "Search",
    act: () => post(path.session(found.id, "/reroute")),
    done: (pairing) => {
      location.hash = to(`/pairings/${pairing.id}`);
      return "The search has begun.";
    },
  });
}

function paid(found) {
  const extension = found.status === "active" ? found.extensions + 1 : 0;
  const amount = field("Amount in rupiah", h("input", { inputmode: "numeric", autocomplete: "off" }), "May be left empty.");
  return ask({
    title: extension ? `Mark extension ${extension} as paid?` : "Mark as paid?",
    text: "For money that did not come through the payment provider.",
    consequences: [extension ? "The session lasts longer by one session's time." : "The session begins now."],
    confirm: "Mark as paid",
    fields: [{ name: "amount", field: amount, value: whole }],
    act: ({ amount: rupiah }) => post(path.session(found.id, "/paid"), { extension, amount: rupiah }),
    done: "It is marked as paid.",
  });
}

function buttons(found, did) {
  if (!viewer.operator || !["active", "pending_payment"].includes(found.status)) return null;
  const button = (word, kind, act) => h("button", { type: "button", class: `button ${kind}`, onclick: async () => { await act(found); did(); } }, word);
  const unpaid = found.status === "pending_payment";
  return [button(unpaid ? "Mark as paid" : "Mark extension paid", "", paid), button("Reroute", "", reroute), button(unpaid ? "Cancel" : "End", "danger", end)];
}

function page(found, did) {
  const open = ["active", "pending_payment"].includes(found.status);
  return [
    heading({ back: { href: to("/sessions"), word: "Sessions" }, title: `Session ${short(found.id)}`, state: badge(SESSION[found.status]), actions: buttons(found, did) }),
    card(
      null,
      facts([
        ["Id", identity(found.id)],
        ["Mitra", [h("a", { href: to(`/mitras/${found.mitra_id}`) }, found.mitra_name || short(found.mitra_id)), open && !found.mitra_reachable && " (not online)"]],
        ["Customer", identity(found.customer_id)],
        ["Created", stamp(found.created_at)],
        found.status === "pending_payment" && ["To be paid within", ticking(found.payment_due_at, "left")],
        ["Started", found.started_at && stamp(found.started_at)],
        found.status === "active" && ["Time left", ticking(found.expires_at, "left")],
        ["Over", found.ended_at && exactly(found.ended_at)],
        ["Because", found.end_reason && (ENDED[found.end_reason] ?? found.end_reason)],
        ["Extensions", count(found.extensions)],
        ["Messages", count(found.messages)],
      ]),
    ),
    h(
      "div",
      { class: "columns even" },
      card("Payments", found.payments.length ? table("Payments", PAYMENTS, found.payments.map((row) => ({ ...row, id: row.invoice_id })), { class: "compact" }) : empty("Nothing was paid yet")),
      card("Pairings", found.pairings.length ? table("Pairings", PAIRINGS, found.pairings, { class: "compact" }) : empty("No pairing led to it")),
    ),
  ];
}

export function session({ params, signal, retitle }) {
  let mitra = null;
  const did = () => {
    state.reload();
    past.renew();
  };
  const state = arriving({
    title: "Session",
    signal,
    read: (abort) => get(path.session(params.id), {}, abort),
    draw: (found) => {
      mitra = found.mitra_id;
      retitle(`Session ${short(params.id)}`);
      return page(found, did);
    },
  });
  const past = pagedTimeline({
    nothing: "Nothing has happened yet",
    signal,
    told: (entries) => entries.map(told),
    load: async (_, abort) => {
      const { entries } = await get(path.session(params.id, "/timeline"), {}, abort);
      return { entries, next: null };
    },
  });
  const moved = altered("sessions");
  fresh(did, {
    signal,
    paceMs: PACE_MS,
    pollMs: POLL_MS,
    counts: (frame) => moved(frame) || tells(frame, "pairing"),
    presence: ({ changes }) => changes.some((each) => each.mitra_id === mitra),
  });
  return { title: "Session", node: fill(h("div", { class: "page" }), [state.node, card("What happened", past.node)]), ready: state.ready };
}
