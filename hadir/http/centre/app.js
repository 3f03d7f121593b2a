// The page begins here: sign in, then the view that the address names.

import { fill, h } from "./dom.js";
import { gate } from "./gate.js";
import { live } from "./live.js";
import { empty } from "./parts.js";
import { depth, found, route, to, write } from "./router.js";
import { session } from "./session.js";
import { shell } from "./shell.js";
import { audit } from "./views/audit.js";
import { mitra } from "./views/mitra.js";
import { mitras } from "./views/mitras.js";
import { overview } from "./views/overview.js";
import { pairing } from "./views/pairing.js";
import { pairings } from "./views/pairings.js";
import { reports } from "./views/reports.js";
import { session as oneSession } from "./views/session.js";
import { sessions } from "./views/sessions.js";
import { settings } from "./views/settings.js";

route("/", overview);
route("/mitras", mitras);
route("/mitras/:id", mitra);
route("/pairings", pairings);
route("/pairings/:id", pairing);
route("/sessions", sessions);
route("/sessions/:id", oneSession);
route("/reports", reports);
route("/settings", settings);
route("/settings/:key", settings);
route("/audit", audit);

const VERSION = document.querySelector("meta[name=version]").content;
const main = h("main", { id: "main", tabindex: "-1" });

let frame = null;
let leaving = new AbortController();
let staying = new AbortController();
let shown = { path: null, hash: location.hash };

function nothing() {
  return { title: "Not found", node: h("div", { class: "page" }, h("h1", { tabindex: "-1" }, "There is no such page"), empty("The address leads nowhere", "Choose a view from the navigation.")) };
}

/** Shows the view of the address. Another one than before gets the focus: whoever does not see it hears of it. */
async function navigate() {
  const before = shown;
  depth.keep(before.hash);
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { open, params, path, query } = found();
  shown = { path, hash: location.hash };
  const retitle = (title) => {
    if (!signal.aborted) document.title = `${title} · Hadir`;
  };
  const setQuery = (asked, options) => {
    if (found().path !== path) return; // somebody is leaving already: the address is another view's
    write(path, asked, options);
    shown.hash = location.hash;
  };
  const view = (open ?? nothing)({ params, query, signal, setQuery, retitle });
  retitle(view.title);
  frame.at(path);
  fill(main, view.node);
  main.dataset.path = shown.hash.slice(1) || "/"; // for whoever waits for it
  await view.ready;
  if (signal.aborted) return;
  const busy = main.contains(document.activeElement) && document.activeElement !== main; // somebody types already
  if (before.path !== null && before.path !== path && !busy) (main.querySelector("h1") ?? main).focus({ preventScroll: true });
  depth.restore(shown.hash);
}

function begin() {
  shown = { path: null, hash: location.hash };
  staying = new AbortController();
  frame = shell(main, staying.signal);
  live.start();
  navigate();
}

function end() {
  leaving.abort();
  staying.abort();
  live.stop();
  document.querySelector("dialog")?.remove();
  gate();
}

/** After a reconnect the servers may be of another version than this page. */
async function compare() {
  const page = await fetch("/", { cache: "no-cache" }).then((answer) => answer.text(), () => "");
  const version = /name="version" content="(\w+)"/.exec(page)?.[1];
  if (version && version !== VERSION) frame.notify("The servers have a newer version of this page.", "Load it", () => location.reload());
}

session.takeFromAddress();
session.onChange(() => (session.token ? begin() : end()));
history.scrollRestoration = "manual";
addEventListener("hashchange", () => {
  const given = new URLSearchParams(location.hash.slice(1)).has("token");
  if (given) session.takeFromAddress();
  else if (session.token) navigate();
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !session.token) return;
  event.preventDefault();
  const search = main.querySelector("[data-search]");
  if (search) search.focus();
  else {
    location.hash = to("/mitras");
    addEventListener("hashchange", () => setTimeout(() => main.querySelector("[data-search]")?.focus()), { once: true });
  }
});
live.addEventListener("expiring", () => frame?.notify("This login ends within a minute.", "Sign in again", () => session.signOut("Sign in with a new token.")));
let hellos = 0;
live.addEventListener("hello", () => {
  if (!hellos++) return;
  compare();
  if (main.querySelector(".failure")) navigate(); // what could not be read meanwhile
});

if (session.token) begin();
else gate();
