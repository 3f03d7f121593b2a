// When what a view shows is read once more: it may have changed, or the page was cut off meanwhile.

import { live } from "./live.js";
import { paced } from "./parts.js";

/**
 * Calls `act` after a reconnect, when `counts(frame)` or `presence(frame)` says that it matters, and every `pollMs`
 * while somebody looks; not more often than every `paceMs`, until the signal. Answers what asks for one more.
 */
export function fresh(act, { signal, paceMs, pollMs = null, counts = () => false, presence = () => false }) {
  const soon = paced(act, paceMs, signal);
  live.addEventListener("hello", soon, { signal });
  live.addEventListener("counts", ({ detail }) => counts(detail) && soon(), { signal });
  live.addEventListener("presence", ({ detail }) => presence(detail) && soon(), { signal });
  if (pollMs !== null) {
    const timer = setInterval(() => document.hidden || soon(), pollMs);
    signal.addEventListener("abort", () => clearInterval(timer));
  }
  return soon;
}

/** Whether a frame tells of an activity of this kind; of very many it does not name all. */
export function tells(frame, kind) {
  return frame.type === "counts" && (frame.more_activity || (frame.activity ?? []).some((each) => each.kind === kind));
}

/** Whether a part of the counts is another than in the frame before. */
export function altered(name) {
  let before = JSON.stringify(live.view[name]);
  return (frame) => {
    const now = JSON.stringify(frame[name]);
    const other = now !== before;
    before = now;
    return other;
  };
}
