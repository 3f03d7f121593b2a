// Questions before something is done: what will happen, in words, and the way out of it.

import { h, say } from "./dom.js";
import { toast } from "./parts.js";

/**
 * Asks, and does it: `act(values)` is called when it is confirmed, and what it is refused for is shown in the dialog.
 * `fields`: [{name, field}] as `parts.field` makes them, with `read(input)` that throws what is wrong with it.
 * Answers whether it was done. The browser keeps the focus inside, and gives it back afterwards.
 */
export function ask({ title, text, consequences = [], confirm, danger = false, fields = [], act, done }) {
  const wrong = h("p", { class: "failure", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, confirm);
  const no = h("button", { type: "button", class: "button", onclick: () => leave() }, "Cancel");
  const form = h(
    "form",
    { novalidate: true },
    h("h2", { id: "dialog-title" }, title),
    h(
      "div",
      { id: "dialog-text" },
      h("p", {}, text),
      consequences.length ? h("ul", { class: "consequences" }, consequences.map((each) => h("li", {}, each))) : null,
    ),
    fields.map((each) => each.field.node),
    wrong,
    h("div", { class: "dialog-buttons" }, no, yes),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  let confirmed = false;
  const busy = (value) => {
    yes.disabled = no.disabled = value;
    dialog.setAttribute("aria-busy", String(value));
  };
  /** Not while it is being done: whoever left could not know whether it was. A request has a deadline of its own. */
  const leave = () => yes.disabled || dialog.close();

  const refuse = (error) => {
    const named = fields.find((each) => each.name === error.field);
    if (named) return named.field.refuse(error.message);
    wrong.hidden = false;
    say(wrong, error.message);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.hidden = true;
    const values = read(fields);
    if (!values) return;
    if (yes.disabled) return;
    busy(true);
    try {
      const answer = await act(values);
      confirmed = true;
      dialog.close();
      if (done) toast(typeof done === "function" ? done(answer) : done);
    } catch (error) {
      refuse(error);
    } finally {
      busy(false);
      if (dialog.open && !dialog.contains(document.activeElement)) yes.focus();
    }
  });
  dialog.addEventListener("click", (event) => event.target === dialog && leave());
  dialog.addEventListener("cancel", (event) => yes.disabled && event.preventDefault());
  const over = new AbortController();
  const stay = (event) => event.key === "Escape" && yes.disabled && event.preventDefault(); // a second one would close it
  document.addEventListener("keydown", stay, { capture: true, signal: over.signal });
  document.body.append(dialog);
  dialog.showModal();
  (fields[0]?.field.input ?? no).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      over.abort();
      dialog.remove();
      if (document.activeElement === document.body) document.querySelector("main h1")?.focus(); // its button is gone
      resolve(confirmed);
    });
  });
}

/** The values of fields by their names; null where one is wrong, which then says so and has the focus. */
export function read(fields) {
  const values = {};
  let first = null;
  for (const { name, field, value } of fields) {
    try {
      values[name] = value(field.input);
      field.refuse("");
    } catch (error) {
      field.refuse(error.message);
      first ??= field.input;
    }
  }
  first?.focus();
  return first ? null : values;
}
