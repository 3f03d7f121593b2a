// Elements out of values. Text is always text: nothing here parses HTML, so no name can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `on…` attributes are listeners, null and false ones are left out, children may be nested lists. */
export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  return fill(element, children, false);
}

/** Puts children into an element, instead of what is there. */
export function fill(element, children, clear = true) {
  const nodes = [children].flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
  if (clear) element.replaceChildren(...nodes);
  else element.append(...nodes);
  return element;
}

/** Changes an element's text only where it is another: nothing is drawn, or said aloud, twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const PATHS = {
  overview: ["M3 13h8V3H3z", "M13 21h8V11h-8z", "M3 21h8v-4H3z", "M13 7h8V3h-8z"],
  mitras: ["M16 20v-1.5a4 4 0 0 0-4-4H6a4 4 0 0 0-4 4V20", "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M22 20v-1.5a4 4 0 0 0-3-3.87", "M16 3.13a4 4 0 0 1 0 7.75"],
  pairings: ["M8 7h12l-4-4", "M16 17H4l4 4"],
  sessions: ["M21 12a8.5 8.5 0 0 1-12.3 7.6L3 21l1.4-5.7A8.5 8.5 0 1 1 21 12z"],
  reports: ["M4 20V10", "M10 20V4", "M16 20v-7", "M22 20H2"],
  settings: ["M4 7h10", "M18 7h2", "M16 5v4", "M4 17h2", "M10 17h10", "M8 15v4"],
  audit: ["M6 3h9l4 4v14H6z", "M14 3v5h5", "M9 13h7", "M9 17h5"],
  sun: ["M12 17a5 5 0 1 0 0-10 5 5 0 0 0 0 10z", "M12 1v2", "M12 21v2", "M4.2 4.2l1.4 1.4", "M18.4 18.4l1.4 1.4", "M1 12h2", "M21 12h2", "M4.2 19.8l1.4-1.4", "M18.4 5.6l1.4-1.4"],
  moon: ["M21 13A9 9 0 1 1 11 3a7 7 0 0 0 10 10z"],
  menu: ["M4 6h16", "M4 12h16", "M4 18h16"],
  search: ["M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14z", "M21 21l-4.8-4.8"],
  back: ["M15 5l-7 7 7 7"],
  out: ["M9 21H5V3h4", "M16 17l5-5-5-5", "M21 12H9"],
  download: ["M12 3v12", "M7 11l5 5 5-5", "M4 21h16"],
  key: ["M15 9.5a5.5 5.5 0 1 1-4.6 8.5H8v2H5v2H2v-3l7.6-7.2A5.5 5.5 0 0 1 15 9.5z"],
};

/** A drawing beside words, which say the same. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" };
  for (const [key, value] of Object.entries(attributes)) drawing.setAttribute(key, value);
  for (const line of PATHS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    drawing.append(path);
  }
  return drawing;
}

/** The mark of the product: somebody who is present, and the ring of the call. */
export function mark() {
  const drawing = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 32 32", class: "mark", "aria-hidden": "true" })) {
    drawing.setAttribute(key, value);
  }
  for (const [radius, kind] of [[10.5, "ring"], [5, "core"]]) {
    const circle = document.createElementNS(SVG, "circle");
    for (const [key, value] of Object.entries({ cx: 16, cy: 16, r: radius, class: kind })) circle.setAttribute(key, value);
    drawing.append(circle);
  }
  return drawing;
}
