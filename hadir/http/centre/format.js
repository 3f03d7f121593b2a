// Numbers, times and durations as people read them; all ages are by the server's clock.

const NUMBER = new Intl.NumberFormat("en-US");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const WEEKDAY = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });

export const NONE = "–";

let skew = 0;

/** What the server's clock says, as it was told last: ages are right also where this machine's clock is not. */
export const clock = {
  now: () => Date.now() + skew,
  hear(serverTime) {
    skew = Date.parse(serverTime) - Date.now();
  },
};

export function count(value) {
  return value === null || value === undefined ? NONE : NUMBER.format(value);
}

/** With one decimal below 100, where it has one. */
export function amount(value) {
  if (value === null || value === undefined) return NONE;
  return NUMBER.format(Math.abs(value) < 100 ? Math.round(value * 10) / 10 : Math.round(value));
}

/** Seconds as `0.4 s`, `45 s`, `2 min 5 s`, `3 h 12 min`, `4 d 2 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 9.95) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  const rest = whole % units[first][0];
  const parts = [`${Math.floor(whole / units[first][0])} ${units[first][1]}`];
  if (first < 3 && Math.floor(rest / units[first + 1][0])) {
    parts.push(`${Math.floor(rest / units[first + 1][0])} ${units[first + 1][1]}`);
  }
  return parts.join(" ");
}

export function milliseconds(seconds) {
  return seconds === null || seconds === undefined ? NONE : `${amount(seconds * 1000)} ms`;
}

/** Seconds between two times; the later one may be now. */
export function between(from, to) {
  return Math.max(0, ((to ? Date.parse(to) : clock.now()) - Date.parse(from)) / 1000);
}

export function ago(at) {
  const seconds = (clock.now() - Date.parse(at)) / 1000;
  if (seconds < -1.5) return `in ${duration(-seconds)}`;
  return seconds < 1.5 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

export function time(at) {
  return CLOCK.format(new Date(at));
}

export function day(at) {
  return WEEKDAY.format(new Date(at));
}

/** The time, with its day unless that is today. */
export function stamp(at) {
  const when = new Date(at);
  const today = new Date(clock.now()).toDateString() === when.toDateString();
  return today ? CLOCK.format(when) : `${DAY.format(when)}, ${CLOCK.format(when)}`;
}

export function exactly(at) {
  const when = new Date(at);
  return `${DAY.format(when)}, ${CLOCK.format(when)}`;
}

/** The beginning of an id: enough to tell apart what is on one page. */
export function short(id) {
  return id ? id.slice(0, 8) : NONE;
}

/** Local dates as `2026-11-29`, so many days from today. */
export function date(daysFromNow = 0, timeZone = undefined) {
  const when = new Date(clock.now() + daysFromNow * 86400000);
  return new Intl.DateTimeFormat("en-CA", { timeZone, year: "numeric", month: "2-digit", day: "2-digit" }).format(when);
}
