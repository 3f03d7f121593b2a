// Settings that take effect while everything runs: each with its meaning, its limits, and who changed it.

import { get, path, put } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { count, short } from "../format.js";
import { table } from "../listing.js";
import { arriving, card, empty, failure, field, skeleton, ticking } from "../parts.js";
import { session } from "../session.js";
import { plural } from "../words.js";

const LONG = 60;

const CHANGES = [
  { head: "Changed", cell: (row) => ticking(row.at) },
  { head: "By", cell: (row) => (row.actor ? `operator ${short(row.actor)}` : "–") },
  { head: "From", kind: "wide", cell: (row) => shown(row.before) },
  { head: "To", kind: "wide", cell: (row) => shown(row.value) },
];

function shown(value) {
  if (value === null || value === undefined) return h("span", { class: "muted" }, "the default");
  return value === "" ? h("span", { class: "muted" }, "empty") : String(value);
}

/** What a setting takes, for people. */
function limits(setting) {
  if (setting.kind === "integer") return `A whole number from ${count(setting.min)} to ${count(setting.max)}; ${count(setting.default)} unless set.`;
  return `At most ${count(setting.max)} characters; ${setting.default === "" ? "empty" : `“${setting.default}”`} unless set.`;
}

/** The value of an input. Throws what is wrong with it. */
function value(setting, input) {
  if (setting.kind === "integer") {
    const text = input.value.trim();
    const number = Number(text);
    const fits = /^-?\d+$/.test(text) && number >= (setting.min ?? -Infinity) && number <= (setting.max ?? Infinity);
    if (!fits) throw new Error(`This must be a whole number from ${count(setting.min)} to ${count(setting.max)}.`);
    return number;
  }
  if ([...input.value].length > (setting.max ?? Infinity)) throw new Error(`This must be a text of at most ${count(setting.max)} characters.`);
  return input.value;
}

function editor(setting, did) {
  const long = setting.kind === "text" && (setting.max ?? 0) > LONG;
  const control = long ? h("textarea", { rows: "3" }) : h("input", { inputmode: setting.kind === "integer" ? "numeric" : null, autocomplete: "off" });
  control.value = setting.value;
  const labelled = field("Value", control, limits(setting));
  const save = h("button", { type: "submit", class: "button primary" }, "Save …");
  const form = h("form", { class: "editor", novalidate: true, "aria-label": `Change ${setting.key}` }, labelled.node, h("div", {}, save));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let wanted;
    try {
      wanted = value(setting, control);
      labelled.refuse("");
    } catch (error) {
      labelled.refuse(error.message);
      return control.focus();
    }
    if (wanted === setting.value) return labelled.refuse("It is so already.");
    const done = await ask({
      title: `Change ${setting.key}?`,
      text: "It takes effect at once, on every instance, and the change is kept with your name.",
      consequences: [`From: ${setting.value === "" ? "empty" : setting.value}`, `To: ${wanted === "" ? "empty" : wanted}`, setting.key === "max_sessions" && "Every mitra without a capacity of its own follows."].filter(Boolean),
      confirm: "Change it",
      act: () => put(path.setting(setting.key), { value: wanted }),
      done: ({ moved }) => `${setting.key} is changed${moved ? `; ${count(moved)} ${plural(moved, "mitra")} moved` : ""}.`,
    });
    if (done) did();
  });
  return form;
}

/** The changes of a setting, read when they are asked for. */
function past(setting, signal, opened) {
  const place = h("div", {});
  const load = async () => {
    fill(place, skeleton(2));
    try {
      const { changes } = await get(path.setting(setting.key, "/history"), {}, signal);
      fill(place, changes.length ? table(`Changes of ${setting.key}`, CHANGES, changes.map((row, n) => ({ ...row, id: n })), { class: "compact" }) : empty("It was never changed"));
    } catch (error) {
      if (error.name !== "AbortError") fill(place, failure(error, load));
    }
  };
  const details = h("details", { open: opened }, h("summary", {}, "History"), place);
  if (opened) load();
  details.addEventListener("toggle", () => details.open && !place.children.length && load());
  return details;
}

export function settings({ params, signal }) {
  const state = arriving(async () => {
    const { settings: all } = await get("/config", {}, signal);
    const chosen = all.filter((each) => !params.key || each.key === params.key);
    if (!chosen.length) return empty("There is no such setting", "They are all under Settings.");
    return chosen.map((setting) =>
      card(
        setting.key,
        h("p", { class: "muted" }, setting.doc),
        session.operator ? editor(setting, state.reload) : h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Value"), h("dd", {}, shown(setting.value)), h("p", { class: "hint" }, limits(setting)))),
        setting.updated_at && h("p", { class: "hint" }, "Last changed ", ticking(setting.updated_at), setting.actor ? ` by operator ${short(setting.actor)}` : ""),
        past(setting, signal, Boolean(params.key)),
      ),
    );
  }, signal);
  const node = h("div", { class: "page narrow" }, h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Settings")), state.node);
  return { title: "Settings", node, ready: state.ready };
}
