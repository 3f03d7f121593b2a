// What states, reasons and actions mean, in words.

import { short } from "./format.js";
import { to } from "./router.js";

const REASONS = {
  created: "it has never connected",
  connected: "it connected",
  back: "it came back in time",
  goodbye: "its app said goodbye",
  status: "the mitra used its own switch",
  http: "the mitra used its switch over HTTP",
  lost: "its connection was lost",
  drained: "its instance was restarted, and it did not come to another",
  token_expired: "its token expired",
  silent: "its app fell silent",
  slow: "its app did not read what it was sent",
  too_fast: "its app sent too much",
  rotated: "its connection was to be renewed and was not",
  revoked: "its login was revoked",
  deactivated: "it was taken out of service",
  protocol_error: "its app broke the protocol",
  operator: "an operator took it offline",
  stale: "its beats stopped",
  instance_died: "the instance that held its connection died",
  postgres_outage: "the database was away when it connected",
  external: "another program wrote it",
};

export function reason(name) {
  return REASONS[name] ?? name ?? "";
}

/** A mitra's state in one word, with the tone that it is shown in. */
export function standing(mitra) {
  if (!mitra.is_active) return { word: "Deactivated", tone: "off" };
  if (mitra.state === "suspect") return { word: "Suspect", tone: "suspect" };
  if (mitra.state !== "online") return { word: "Offline", tone: "off" };
  return mitra.open_sessions >= mitra.max_sessions ? { word: "Busy", tone: "busy" } : { word: "Available", tone: "available" };
}

/** Why a mitra is as it is, as a sentence. */
export function why(mitra) {
  const because = reason(mitra.reason);
  if (!mitra.is_active) return "Out of service: it cannot connect, and gets no offers, until an operator activates it.";
  if (mitra.state === "suspect") return `Its connection is in doubt because ${because}. It gets no offers, still counts as online, and goes offline unless it comes back in time.`;
  if (mitra.state !== "online") {
    const wish = mitra.wants_online ? " Its own switch is on: it will be online as soon as it connects." : " Its own switch is off.";
    return `Offline because ${because}.${wish}`;
  }
  if (mitra.open_sessions >= mitra.max_sessions) return `Online because ${because}; it has as many sessions as it may, so it gets no offers.`;
  return `Online because ${because}; it can take ${mitra.max_sessions - mitra.open_sessions} more ${plural(mitra.max_sessions - mitra.open_sessions, "session")}.`;
}

export function plural(number, word) {
  return number === 1 ? word : `${word}s`;
}

export const PAIRING = {
  searching: { word: "Waiting", tone: "waiting" },
  accepted: { word: "Accepted", tone: "available" },
  expired: { word: "Nobody accepted", tone: "suspect" },
  cancelled: { word: "Given up", tone: "off" },
};

export const SESSION = {
  pending_payment: { word: "To be paid", tone: "suspect" },
  active: { word: "Active", tone: "available" },
  ended: { word: "Ended", tone: "off" },
  expired: { word: "Not paid in time", tone: "danger" },
  cancelled: { word: "Cancelled", tone: "off" },
};

export const INSTANCE = {
  ready: { word: "Ready", tone: "available" },
  starting: { word: "Starting", tone: "suspect" },
  draining: { word: "Draining", tone: "suspect" },
  dead: { word: "Dead", tone: "danger" },
};

/** What was done, in front of what it was done to; and the kind of that. */
export const ACTIONS = {
  activate: { did: "put back into service", label: "Activate", kind: "mitra" },
  deactivate: { did: "took out of service", label: "Deactivate", kind: "mitra" },
  offline: { did: "took offline", label: "Take offline", kind: "mitra" },
  revoke: { did: "revoked the login", label: "Revoke a login", kind: "login" },
  release_expiry: { did: "let held expiries go on:", label: "Release expiry", kind: "number" },
  end_session: { did: "ended the session", label: "End a session", kind: "session" },
  reroute: { did: "searches another mitra for the session", label: "Reroute a session", kind: "session" },
  paid: { did: "marked as paid the session", label: "Mark paid", kind: "session" },
  config: { did: "changed the setting", label: "Change a setting", kind: "setting" },
};

const PLACES = { mitra: "/mitras/", session: "/sessions/", pairing: "/pairings/", setting: "/settings/" };

/** Where what an action was done to is shown; null where nowhere. */
export function place(kind, id) {
  return id && PLACES[kind] ? to(PLACES[kind] + encodeURIComponent(id)) : null;
}

/** How a subject is called: settings by their key, the rest by the beginning of their id. */
export function called(kind, subject) {
  return kind === "setting" || kind === "number" ? subject : short(subject);
}
