// The way in: a token, and why one is needed.

import { fill, h, mark, say } from "./dom.js";
import { session } from "./session.js";

export function gate() {
  const wrong = h("p", { class: "wrong", id: "token-wrong", role: "alert" });
  const input = h("textarea", { id: "token", rows: "4", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "token-wrong token-hint" });
  const form = h(
    "form",
    { class: "gate-form", novalidate: true },
    h("label", { for: "token" }, "Token of an operator or viewer"),
    input,
    h("p", { class: "hint", id: "token-hint" }, "It stays in this tab, and is forgotten when the tab is closed."),
    wrong,
    h("button", { type: "submit", class: "button primary wide-button" }, "Sign in"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = input.value.trim().replace(/^Bearer\s+/i, "");
    const fault = given ? session.fault(given) : "Paste a token first.";
    say(wrong, fault);
    input.setAttribute("aria-invalid", String(Boolean(fault)));
    if (fault) input.focus();
    else session.signIn(given);
  });
  say(wrong, session.why);
  document.title = "Sign in · Hadir";
  fill(document.body, h("main", { class: "gate", id: "main" }, h("div", { class: "gate-card" }, h("p", { class: "brand large" }, mark(), "Hadir"), h("h1", {}, "Control centre"), form)));
  input.focus();
}
