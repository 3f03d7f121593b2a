// What stands around every view: navigation, the state of the connection, the theme, who is here.

import { fill, h, icon, mark, say } from "./dom.js";
import { duration, short, time } from "./format.js";
import { live } from "./live.js";
import { session } from "./session.js";

const VIEWS = [
  ["overview", "/", "Overview"],
  ["mitras", "/mitras", "Mitras"],
  ["pairings", "/pairings", "Pairings"],
  ["sessions", "/sessions", "Sessions"],
  ["reports", "/reports", "Reports"],
  ["settings", "/settings", "Settings"],
  ["audit", "/audit", "Audit log"],
];
const PHASES = {
  connecting: { word: "Connecting", tone: "suspect" },
  live: { word: "Live", tone: "online" },
  stale: { word: "Not live", tone: "suspect" },
  reconnecting: { word: "Reconnecting", tone: "danger" },
  out: { word: "Signed out", tone: "off" },
};

function themeSwitch(signal) {
  const root = document.documentElement;
  const isDark = () => root.dataset.theme === "dark";
  const button = h("button", { type: "button", class: "round", onclick: () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  } });
  const show = () => {
    button.setAttribute("aria-label", isDark() ? "Switch to the light theme" : "Switch to the dark theme");
    fill(button, icon(isDark() ? "sun" : "moon"));
  };
  const themes = new MutationObserver(show);
  themes.observe(root, { attributeFilter: ["data-theme"] });
  signal.addEventListener("abort", () => themes.disconnect());
  show();
  return button;
}

/** How the connection stands: a word always, and a line across the page while what it shows may be old. */
function connection(signal) {
  const word = h("span", {});
  const as = h("span", { class: "as-of" });
  const pill = h("p", { class: "pill" }, h("span", { class: "dot", "aria-hidden": "true" }), word, as);
  const since = h("span", { role: "status" });
  const next = h("span", { class: "next" });
  const retry = h("button", { type: "button", class: "button small", onclick: () => live.tryNow() }, "Try now");
  const banner = h("div", { class: "banner", hidden: true }, since, next, retry);

  const show = () => {
    const { phase, since: from, next: at, why } = live.state;
    const { word: name, tone } = PHASES[phase];
    pill.dataset.tone = tone;
    document.body.dataset.live = phase;
    say(word, name);
    say(as, phase === "live" && live.view.as_of ? `as of ${time(live.view.as_of)}` : "");
    const old = phase === "reconnecting" || phase === "stale";
    banner.hidden = !old;
    say(since, old ? reasonOf(phase, from, why) : "");
    const left = at === null ? null : (at - Date.now()) / 1000;
    say(next, phase !== "reconnecting" ? "" : left > 0.5 ? `Next try in ${duration(Math.ceil(left))}.` : "Trying …");
    retry.hidden = phase !== "reconnecting";
  };
  for (const event of ["state", "tick", "counts"]) live.addEventListener(event, show, { signal });
  show();
  return { pill, banner };
}

function reasonOf(phase, since, why) {
  const from = since ? `Not live since ${time(since)}: what you see is from then.` : "Not live yet.";
  if (phase === "stale" && live.view.counts?.state === "stale") return `${from} The servers cannot count at the moment.`;
  return why ? `${from} ${why}` : from;
}

/** Builds the page around `main`, until the sign-out that `signal` tells of. `at(path)` marks the view that is open. */
export function shell(main, signal) {
  const links = VIEWS.map(([name, path, word]) => [path, h("a", { href: `#${path}` }, icon(name), h("span", {}, word))]);
  const nav = h("nav", { id: "nav", "aria-label": "Views" }, h("ul", {}, links.map(([, link]) => h("li", {}, link))));
  const menu = h("button", { type: "button", class: "round menu", "aria-expanded": "false", "aria-controls": "nav", "aria-label": "Menu", onclick: () => open(menu.getAttribute("aria-expanded") !== "true") }, icon("menu"));
  const open = (value) => {
    menu.setAttribute("aria-expanded", String(value));
    document.body.classList.toggle("menu-open", value);
  };
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => {
    event.preventDefault();
    main.focus();
  } }, "Skip to the content");
  const { pill, banner } = connection(signal);
  const who = h("p", { class: "who" }, h("span", { class: "who-role" }, session.role), h("span", { class: "hint", title: session.name }, short(session.name)));
  const out = h("button", { type: "button", class: "round", "aria-label": "Sign out", title: "Sign out", onclick: () => session.signOut("You have signed out.") }, icon("out"));
  const notice = h("div", { class: "banner notice", hidden: true });

  fill(document.body, [
    skip,
    h("header", { class: "side" }, h("a", { class: "brand", href: "#/", "aria-label": "Hadir, overview" }, mark(), h("span", {}, "Hadir")), menu, nav, h("div", { class: "side-foot" }, who, out)),
    h("div", { class: "body" }, h("div", { class: "top" }, pill, themeSwitch(signal)), banner, notice, main),
  ]);
  document.addEventListener("keydown", (event) => event.key === "Escape" && open(false), { signal });
  return {
    at(path) {
      open(false);
      const top = `/${path.split("/")[1]}`;
      for (const [own, link] of links) {
        if (own === top) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
    notify(text, word, act) {
      notice.hidden = false;
      fill(notice, [h("span", { role: "status" }, text), h("button", { type: "button", class: "button small", onclick: act }, word)]);
    },
  };
}
