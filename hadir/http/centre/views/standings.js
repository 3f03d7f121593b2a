// Sessions by state, side by side: those that are open now, and those that ended within a day.

import { h, say } from "../dom.js";
import { count } from "../format.js";
import { bar } from "../parts.js";
import { to } from "../router.js";
import { SESSION } from "../words.js";

export function standings() {
  const lines = Object.entries(SESSION).map(([status, { word, tone }]) => {
    const number = h("span", { class: "standing-number" });
    const share = bar(word);
    const node = h("li", { "data-tone": tone }, h("a", { href: to("/sessions", { status }) }, word), share, number);
    return { status, node, number, share };
  });
  const node = h(
    "section",
    { class: "card", "aria-labelledby": "standings-title" },
    h("div", { class: "card-head" }, h("h2", { id: "standings-title" }, "Sessions by state"), h("span", { class: "hint" }, "what is over: of the last 24 h")),
    h("ul", { class: "standings" }, lines.map((each) => each.node)),
  );
  return {
    node,
    show(sessions) {
      const most = Math.max(1, ...Object.values(sessions ?? {}));
      for (const { status, number, share } of lines) {
        say(number, count(sessions?.[status]));
        share.show(sessions?.[status] ?? 0, most);
      }
    },
  };
}
