// Addresses: `#/mitras?q=budi` names a view and what it shows, so that it can be sent to somebody, and back works.

const routes = [];
const depths = new Map();

/** `pattern` as `/mitras/:id`; `open(context)` answers `{title, node, ready}`. */
export function route(pattern, open) {
  const names = [...pattern.matchAll(/:(\w+)/g)].map((found) => found[1]);
  const form = new RegExp(`^${pattern.replace(/:\w+/g, "([^/]+)")}$`);
  routes.push({ form, names, open });
}

export function address() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  return { path, query: new URLSearchParams(query) };
}

/** The address of a view, for links. */
export function to(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** Moves to an address; where it is another query of the same view, that view has shown it already. */
export function write(path, query, { replace = false } = {}) {
  const target = to(path, query);
  if (target === location.hash) return;
  if (replace) history.replaceState({ seen: true }, "", target);
  else history.pushState({ seen: true }, "", target);
}

/** The view of the present address: {open, params, path, query}, `open` null where there is none. */
export function found() {
  const { path, query } = address();
  for (const { form, names, open } of routes) {
    const match = form.exec(path);
    if (match) {
      const values = match.slice(1).map(decoded);
      return { open, path, query, params: Object.fromEntries(names.map((name, n) => [name, values[n]])) };
    }
  }
  return { open: null, path, query, params: {} };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** How far down a page was read: back leads to where one was, a link to the top. */
export const depth = {
  keep: (hash) => depths.set(hash, scrollY),
  restore(hash) {
    scrollTo(0, history.state?.seen ? depths.get(hash) ?? 0 : 0);
    history.replaceState({ seen: true }, "");
  },
};
