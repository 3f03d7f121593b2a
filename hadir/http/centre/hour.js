// The last hour of every figure: what the servers kept, then what this page hears itself.

import { get } from "./api.js";
import { clock } from "./format.js";
import { live } from "./live.js";
import { session } from "./session.js";

export const HOUR_S = 3600;
const APART_S = 2; // what comes sooner after the last point that is kept replaces the newest
const GAP_S = 30; // between points further apart nothing is known
const RETRY_MS = 15_000;

/** A figure of the live view, by the name of its series. */
const FIGURES = {
  online: (view) => view.counts?.online,
  available: (view) => view.counts?.available,
  busy: (view) => view.counts?.busy,
  suspect: (view) => view.counts?.suspect,
  deactivated: (view) => view.counts?.deactivated,
  sockets: (view) => total(view.instances, "sockets"),
  beats_per_s: (view) => total(view.instances, "beats_per_s"),
  pending_payment: (view) => view.sessions?.pending_payment,
  active: (view) => view.sessions?.active,
  waiting: (view) => view.pairings?.waiting,
  accept_p50_s: (view) => view.pairings?.accept_p50_s,
};

/** The sum over instances of what they know of themselves; null where none does. */
export function total(instances, name) {
  const known = (instances ?? []).map((each) => each[name]).filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

class Hour extends EventTarget {
  at = [];
  series = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, []]));
  #loading = null;
  #retry = null;

  constructor() {
    super();
    live.addEventListener("hello", () => this.load());
    live.addEventListener("counts", () => this.#append());
    session.onChange(() => !session.token && this.#clear());
  }

  /** [times, values] of a figure. */
  points(name) {
    return [this.at, this.series[name]];
  }

  /** What the servers kept, at the beginning and after every gap of our own. */
  async load() {
    clearTimeout(this.#retry);
    this.#loading?.abort();
    this.#loading = new AbortController();
    try {
      const kept = await get("/series", { minutes: HOUR_S / 60 }, this.#loading.signal);
      this.#keep(kept);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#retry = setTimeout(() => session.token && this.load(), RETRY_MS);
    }
  }

  #keep(kept) {
    const last = kept.at.at(-1) ?? 0;
    const own = this.at.findIndex((at) => at > last);
    const tail = own < 0 ? [] : this.at.slice(own);
    for (const name of Object.keys(FIGURES)) {
      const values = kept.series[name] ?? kept.at.map(() => null);
      this.series[name] = values.concat(own < 0 ? [] : this.series[name].slice(own));
    }
    this.at = kept.at.concat(tail);
    this.dispatchEvent(new Event("change"));
  }

  #append() {
    const at = clock.now() / 1000;
    const last = this.at.at(-1);
    if (last !== undefined && at - last > GAP_S) this.#push(last + 1, () => null);
    if (at - (this.at.at(-2) ?? -Infinity) < APART_S) this.#drop(-1);
    const known = live.view.counts?.state !== "stale"; // else these are old, and nobody knows the new ones
    this.#push(at, (name) => (known ? FIGURES[name](live.view) ?? null : null));
    while (this.at[0] < at - HOUR_S) this.#drop(0);
    this.dispatchEvent(new Event("change"));
  }

  #push(at, value) {
    this.at.push(at);
    for (const [name, values] of Object.entries(this.series)) values.push(value(name));
  }

  #drop(index) {
    for (const values of [this.at, ...Object.values(this.series)]) values.splice(index, 1);
  }

  #clear() {
    clearTimeout(this.#retry);
    for (const values of [this.at, ...Object.values(this.series)]) values.length = 0;
  }
}

export const hour = new Hour();
