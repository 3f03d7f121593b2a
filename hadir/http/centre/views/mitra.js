// One mitra: how it stands and why, what can be done about it, and how it came to be so.

import { get, path, post } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { between, day, duration, exactly, short, stamp } from "../format.js";
import { fresh } from "../fresh.js";
import { table } from "../listing.js";
import { arriving, badge, card, empty, facts, heading, identity, ticking } from "../parts.js";
import { to } from "../router.js";
import { session } from "../session.js";
import { gathered, pagedTimeline, some } from "../timeline.js";
import { ACTIONS, reason, SESSION, standing, why } from "../words.js";

const BEATS_MS = 5_000; // beats are told to nobody: while somebody looks, they are asked for
const PACE_MS = 1_000;

const SESSIONS = [
  { head: "Session", cell: (row) => h("a", { href: to(`/sessions/${row.id}`) }, short(row.id)) },
  { head: "State", cell: (row) => badge(SESSION[row.status]) },
  { head: "Customer", cell: (row) => identity(row.customer_id) },
  { head: "Ends", kind: "number", cell: (row) => ticking(row.expires_at ?? row.payment_due_at, "left") },
];

const logins = (mitra, did) => [
  { head: "Login", cell: (row) => [identity(row.sid), row.sid === mitra.sid && h("span", { class: "hint" }, " of its connection")] },
  { head: "State", cell: (row) => badge(row.revoked_at ? { word: "Revoked", tone: "off" } : row.expires_at && between(row.expires_at) > 0 ? { word: "Expired", tone: "off" } : { word: "Valid", tone: "available" }) },
  { head: "Until", cell: (row) => (row.revoked_at ? `revoked ${stamp(row.revoked_at)}` : row.expires_at ? stamp(row.expires_at) : "for ever") },
  { head: "Action", kind: "number", cell: (row) => (session.operator && !row.revoked_at ? h("button", { type: "button", class: "button small", "aria-label": `Revoke the login ${short(row.sid)}`, onclick: () => revoke(mitra, row, did) }, "Revoke") : "") },
];

const TONES = { online: "available", suspect: "suspect", offline: "off" };

/** Offers that ended alike, one after the other on a day, are one line; so is everything else by itself. */
function alike(a, b) {
  return a.kind === "offer" && b.kind === "offer" && (a.why ?? a.state) === (b.why ?? b.state) && day(a.at) === day(b.at);
}

function offers(group) {
  const links = group.map((each) => h("a", { href: to(`/pairings/${each.subject}`) }, short(each.subject)));
  return { at: group[0].at, tone: "waiting", title: `${group.length} offers`, text: group[0].why, notes: [h("span", {}, "pairings ", some(links, "pairings"))] };
}

/** An entry of the timeline as it is shown. */
function told(entry) {
  const length = entry.kind === "presence" && entry.at ? `for ${duration(between(entry.at, entry.until))}${entry.until ? "" : " until now"}` : "";
  const notes = [
    length,
    entry.actor && `by operator ${short(entry.actor)}`,
    entry.instance_id && `on ${entry.instance_id}`,
    entry.connection_id && `connection ${short(entry.connection_id)}`,
    entry.kind === "session" && entry.subject && h("a", { href: to(`/sessions/${entry.subject}`) }, `session ${short(entry.subject)}`),
    entry.kind === "offer" && entry.subject && h("a", { href: to(`/pairings/${entry.subject}`) }, `pairing ${short(entry.subject)}`),
  ].filter(Boolean);
  const tone = entry.kind === "presence" ? TONES[entry.state] ?? "off" : { operator: "operator", offer: "waiting", session: "session" }[entry.kind];
  const title = entry.kind === "presence" ? { online: "Online", suspect: "Suspect", offline: "Offline" }[entry.state] ?? entry.state : { operator: "Operator", offer: "Offer", session: "Session" }[entry.kind];
  return { at: entry.at, tone, title, text: entry.why ?? reason(entry.reason), notes: notes.map((each) => h("span", {}, each)) };
}

/** What a login's end means for the connection: a mitra that an operator took offline may still have one. */
function connected(mitra, login) {
  if (login.sid !== mitra.sid || !mitra.connection_id) return "No connection uses it at the moment.";
  const closed = "Its connection is closed at once, on whichever instance it is";
  return mitra.state === "offline" ? `${closed}.` : `${closed}, and the mitra goes offline.`;
}

async function revoke(mitra, login, did) {
  await ask({
    title: "Revoke this login?",
    text: `The login ${short(login.sid)} of ${named(mitra)} will be good for nothing any more.`,
    consequences: [
      connected(mitra, login),
      "Its app has to sign in anew. This cannot be undone.",
    ],
    confirm: "Revoke",
    danger: true,
    act: () => post(path.login(login.sid, "/revoke")),
    done: "The login is revoked.",
  });
  did();
}

function named(mitra) {
  return mitra.display_name || `mitra ${short(mitra.id)}`;
}

const QUESTIONS = {
  deactivate: (mitra) => ({
    title: `Deactivate ${named(mitra)}?`,
    text: "It is taken out of service until an operator activates it again.",
    consequences: [
      "Its connections are closed at once, on every instance, and its logins are revoked: it has to sign in anew.",
      "Its open offers are withdrawn.",
      mitra.open_sessions ? `Its ${mitra.open_sessions} open sessions go on: end or reroute them yourself.` : "It has no open session.",
    ],
    danger: true,
    done: `${named(mitra)} is out of service.`,
  }),
  activate: (mitra) => ({
    title: `Activate ${named(mitra)}?`,
    text: "It may connect and be offered work again.",
    consequences: ["It comes online by itself, once its app has signed in anew."],
    done: `${named(mitra)} is back in service.`,
  }),
  offline: (mitra) => ({
    title: `Take ${named(mitra)} offline?`,
    text: "Its own switch is turned off, as if the mitra had done so.",
    consequences: ["It gets no offers; its connection and its sessions stay.", "The mitra can switch itself on again."],
    done: `${named(mitra)} is offline.`,
  }),
};

function buttons(mitra, did) {
  if (!session.operator) return null;
  const button = (action, kind = "") =>
    h("button", { type: "button", class: `button ${kind}`, onclick: async () => {
      await ask({ ...QUESTIONS[action](mitra), confirm: ACTIONS[action].label, act: () => post(path.mitra(mitra.id, `/${action}`)) });
      did();
    } }, ACTIONS[action].label);
  if (!mitra.is_active) return [button("activate", "primary")];
  return [(mitra.state !== "offline" || mitra.wants_online) && button("offline"), button("deactivate", "danger")];
}

function page(mitra, did) {
  const shown = standing(mitra);
  return [
    heading({ back: { href: to("/mitras"), word: "Mitras" }, title: named(mitra), state: badge(shown), actions: buttons(mitra, did) }),
    h("p", { class: "why", "data-tone": shown.tone }, why(mitra)),
    card(
      null,
      facts([
        ["Id", identity(mitra.id)],
        ["Since", ticking(mitra.changed_at, "for")],
        ["Last beat", ticking(mitra.last_heartbeat_at)],
        ["Online since", mitra.online_since && stamp(mitra.online_since)],
        ["Its switch", mitra.wants_online ? "on" : "off"],
        ["Capacity", `${mitra.open_sessions} of ${mitra.max_sessions} sessions`],
        ["Connection", mitra.connection_id?.startsWith("http:") ? "over HTTP" : identity(mitra.connection_id)],
        ["Instance", mitra.instance_id && h("span", { class: "name" }, mitra.instance_id)],
        ["Last session", mitra.last_session_at && ticking(mitra.last_session_at)],
        ["Known since", exactly(mitra.created_at)],
      ]),
    ),
    h(
      "div",
      { class: "columns even" },
      card("Open sessions", mitra.sessions.length ? table("Open sessions", SESSIONS, mitra.sessions, { class: "compact" }) : empty("No open session")),
      card("Logins", mitra.logins.length ? [table("Logins", logins(mitra, did), mitra.logins.map((row) => ({ ...row, id: row.sid })), { class: "compact" })] : empty("No login")),
    ),
  ];
}

export function mitra({ params, signal, retitle }) {
  const { id } = params;
  let changed = null;
  const did = () => {
    state.reload();
    past.renew();
  };
  const state = arriving({
    title: "Mitra",
    signal,
    read: (abort) => get(path.mitra(id), {}, abort),
    draw: (found) => {
      retitle(named(found));
      if (changed !== null && changed !== found.changed_at) past.renew();
      changed = found.changed_at;
      return page(found, did);
    },
  });
  const past = pagedTimeline({
    nothing: "Nothing has happened yet",
    signal,
    load: (cursor, abort) => get(path.mitra(id, "/timeline"), { limit: 50, cursor }, abort),
    told: (entries) => gathered(entries, alike).map((group) => (group.length > 1 ? offers(group) : told(group[0]))),
  });
  // Of very many changes not all are named: then the next look will tell.
  fresh(did, { signal, paceMs: PACE_MS, presence: ({ changes }) => changes.some((each) => each.mitra_id === id) });
  const beats = setInterval(() => document.hidden || state.poll(), BEATS_MS);
  signal.addEventListener("abort", () => clearInterval(beats));

  const node = fill(h("div", { class: "page" }), [state.node, card("What happened", past.node)]);
  return { title: "Mitra", node, ready: state.ready };
}
