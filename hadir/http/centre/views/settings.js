// Settings that take effect while everything runs: each with its meaning, its limits, and who changed it.

import { get, path, put } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { count, short } from "../format.js";
import { fresh, tells } from "../fresh.js";
import { table } from "../listing.js";
import { arriving, empty, failure, field, keepingFocus, skeleton, ticking } from "../parts.js";
import { session } from "../session.js";
import { plural } from "../words.js";

const LONG = 60;
const PACE_MS = 2_000;

const CHANGES = [
  { head: "Changed", cell: (row) => ticking(row.at) },
  { head: "By", cell: (row) => (row.actor ? `operator ${short(row.actor)}` : "–") },
  { head: "From", kind: "wide", cell: (row) => shownValue(row.before) },
  { head: "To", kind: "wide", cell: (row) => shownValue(row.value) },
];

function shownValue(value) {
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

/** The form of a setting, and whether somebody has begun to change it. */
function editor(setting, signal, did) {
  const long = setting.kind === "text" && (setting.max ?? 0) > LONG;
  const control = long ? h("textarea", { rows: "3" }) : h("input", { inputmode: setting.kind === "integer" ? "numeric" : null, autocomplete: "off" });
  control.value = setting.value;
  const begun = control.value;
  const labelled = field("Value", control, limits(setting));
  const save = h("button", { type: "submit", class: "button primary" }, "Save …");
  const form = h("form", { class: "editor", novalidate: true, "aria-label": `Change ${setting.key}` }, labelled.node, h("div", {}, save));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    save.disabled = true;
    try {
      const wanted = value(setting, control);
      labelled.refuse("");
      const now = await get(path.setting(setting.key), {}, signal); // somebody else may have changed it since
      save.disabled = false;
      if (wanted === now.value) return labelled.refuse("It is so already.");
      if (await asked(now, wanted)) await did();
    } catch (error) {
      if (error.name === "AbortError") return;
      labelled.refuse(error.message);
      control.focus();
    } finally {
      save.disabled = false;
    }
  });
  return { form, drafted: () => control.value !== begun };
}

function asked(now, wanted) {
  return ask({
    title: `Change ${now.key}?`,
    text: "It takes effect at once, on every instance, and the change is kept with your name.",
    consequences: [`From: ${now.value === "" ? "empty" : now.value}`, `To: ${wanted === "" ? "empty" : wanted}`, now.key === "max_sessions" && "Every mitra without a capacity of its own follows."].filter(Boolean),
    confirm: "Change it",
    act: () => put(path.setting(now.key), { value: wanted }),
    done: ({ moved }) => `${now.key} is changed${moved ? `; ${count(moved)} ${plural(moved, "mitra")} moved` : ""}.`,
  });
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

/** A setting, drawn anew when it is another; a draft of its value is kept until it is saved. */
function settingCard(key, signal, opened) {
  const node = h("section", { class: "card", "aria-label": key });
  let shown = null;
  let drafted = () => false;

  const show = (setting) => {
    const text = JSON.stringify(setting);
    if (text === shown || drafted()) return;
    shown = text;
    keepingFocus(node, () => draw(setting));
  };
  const saved = async () => {
    drafted = () => false;
    show((await get("/config", {}, signal)).settings.find((each) => each.key === key));
  };
  const draw = (setting) => {
    const open = node.querySelector("details")?.open ?? opened;
    const edited = session.operator ? editor(setting, signal, saved) : null;
    drafted = edited?.drafted ?? drafted;
    fill(node, [
      h("h2", {}, key),
      h("p", { class: "muted" }, setting.doc),
      edited?.form ?? h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Value"), h("dd", {}, shownValue(setting.value)), h("p", { class: "hint" }, limits(setting)))),
      setting.updated_at && h("p", { class: "hint" }, "Last changed ", ticking(setting.updated_at), setting.actor ? ` by operator ${short(setting.actor)}` : ""),
      past(setting, signal, open),
    ]);
  };
  return { node, show };
}

export function settings({ params, signal }) {
  const cards = new Map();
  const list = h("div", { class: "arriving" });
  const state = arriving({
    signal,
    read: async (abort) => (await get("/config", {}, abort)).settings,
    draw(all) {
      const chosen = all.filter((each) => !params.key || each.key === params.key);
      if (!chosen.length) return empty("There is no such setting", "They are all under Settings.");
      for (const each of chosen) {
        const one = cards.get(each.key) ?? settingCard(each.key, signal, Boolean(params.key));
        if (!cards.has(each.key)) list.append(one.node);
        cards.set(each.key, one);
        one.show(each);
      }
      return list;
    },
  });
  fresh(state.reload, { signal, paceMs: PACE_MS, counts: (frame) => tells(frame, "operator") });
  const node = h("div", { class: "page narrow" }, h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, "Settings")), state.node);
  return { title: "Settings", node, ready: state.ready };
}
