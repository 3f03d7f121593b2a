// The socket: what is true now, and whether this page still knows it.

import { clock } from "./format.js";
import { session } from "./session.js";

const BEAT_MAX_MS = 5_000;
const QUIET_MS = 8_000; // counts this old are asked for: a quiet system says nothing by itself
const STALE_MS = 15_000; // counts this old, or nothing heard for so long: no longer called live
const DEAD_MS = 25_000; // nothing heard for so long: the connection is given up
const OPEN_MS = 10_000; // an attempt without a hello after this has failed
const WAIT_MAX_MS = 15_000;
const ACTIVITY_MAX = 100;
const FINAL = { 4501: "The login was revoked.", 4504: "The server does not take this page's connection." };

/** Full jitter: a random part of half a second, doubled by every failure in a row; never at once. */
export function backoff(failures, random = Math.random()) {
  return 250 + random * Math.min(WAIT_MAX_MS, 500 * 2 ** failures);
}

function newestFirst(entries) {
  return [...entries].sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
}

class Live extends EventTarget {
  /** `connecting`, `live`, `stale`, `reconnecting` or `out`; `since`: of what is shown (ms), `next`: try (ms). */
  state = { phase: "out", since: null, next: null, why: "" };
  /** The newest of each: counts, sessions, pairings, instances, as_of. */
  view = {};
  /** Newest first. */
  activity = [];
  /** Server's own name, of the last hello. */
  instance = "";

  #socket = null;
  #greeted = false; // after a loss only a new hello makes it live again
  #failures = 0;
  #timer = null;
  #heardAt = 0;
  #askedAt = 0;
  #beatMs = BEAT_MAX_MS;
  #refusal = "";
  #watch = null;

  start() {
    this.stop();
    this.#become("connecting", { since: null });
    this.#watch = setInterval(() => this.#look(), 1_000);
    this.#open();
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    this.#drop();
    this.#failures = 0;
    this.view = {};
    this.activity = [];
    this.#become("out", { since: null });
  }

  /** Does not wait for the next try. */
  tryNow() {
    if (this.state.phase !== "reconnecting") return;
    clearTimeout(this.#timer);
    this.#open();
  }

  #open() {
    this.#drop();
    this.#refusal = "";
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/dashboard`;
    const socket = new WebSocket(address, ["hadir.v1", `bearer.${session.token}`]);
    this.#socket = socket;
    this.#heardAt = this.#askedAt = Date.now();
    const mine = (act) => (event) => this.#socket === socket && act(event);
    socket.onmessage = mine((event) => this.#hear(JSON.parse(event.data)));
    socket.onclose = mine((event) => this.#closed(event.code));
    if (this.state.phase === "reconnecting") this.#become("reconnecting", { next: Date.now() });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#greeted = false;
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close(1000);
  }

  #closed(code) {
    this.#socket = null;
    if (code === 4001) return session.signOut(this.#refusal || "The token has expired.");
    if (code in FINAL) return session.signOut(this.#refusal || FINAL[code]);
    const wait = backoff(this.#failures++);
    this.#become("reconnecting", { next: Date.now() + wait, why: this.#refusal });
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  #hear(message) {
    this.#heardAt = Date.now();
    if (message.server_time) clock.hear(message.server_time);
    switch (message.type) {
      case "hello":
        this.#greeted = true;
        this.#failures = 0;
        this.instance = message.instance;
        this.#beatMs = Math.min(BEAT_MAX_MS, message.heartbeat_interval_s * 1000);
        this.activity = newestFirst(message.activity ?? []);
        this.#take(message);
        this.dispatchEvent(new Event("hello"));
        break;
      case "sync":
        if (message.activity) this.activity = newestFirst(message.activity);
        this.#take(message);
        break;
      case "counts":
        this.activity = [...(message.activity ?? [])].reverse().concat(this.activity).slice(0, ACTIVITY_MAX);
        this.#take(message);
        break;
      case "presence":
        this.dispatchEvent(new CustomEvent("presence", { detail: message }));
        break;
      case "token.expiring":
        this.dispatchEvent(new CustomEvent("expiring", { detail: message.expires_in_s }));
        break;
      case "error":
        this.#refusal = message.message;
        break;
    }
    this.#look(); // a page in the background has few timers, but it hears
  }

  #take(message) {
    const counted = message.counts.state !== "stale"; // else what was known before stays, in grey
    for (const name of ["counts", "sessions", "pairings", "instances", "as_of"]) {
      if (name in message) this.view[name] = message[name];
      else if (counted) this.view[name] = null;
    }
    this.dispatchEvent(new CustomEvent("counts", { detail: message }));
  }

  /** Beats, asks, and judges what is known by its age. */
  #look() {
    const now = Date.now();
    const socket = this.#socket;
    if (!socket) return this.dispatchEvent(new Event("tick"));
    if (now - this.#heardAt > (this.#greeted ? DEAD_MS : OPEN_MS)) {
      this.#drop();
      return this.#closed(1006);
    }
    if (this.#greeted && socket.readyState === WebSocket.OPEN) {
      const asOf = this.view.as_of ? Date.parse(this.view.as_of) : null;
      const age = asOf === null ? Infinity : clock.now() - asOf;
      if (now - this.#askedAt >= this.#beatMs * 0.9) {
        this.#askedAt = now;
        socket.send(JSON.stringify({ type: age > QUIET_MS ? "sync" : "ping" }));
      }
      const known = this.view.counts?.state !== "stale" && age < STALE_MS && now - this.#heardAt < STALE_MS;
      this.#become(known ? "live" : "stale", { since: asOf, next: null, why: "" });
    }
    this.dispatchEvent(new Event("tick"));
  }

  #become(phase, more) {
    const before = this.state;
    this.state = { ...before, phase, ...more };
    if (before.phase !== phase || before.next !== this.state.next) this.dispatchEvent(new Event("state"));
  }
}

export const live = new Live();
