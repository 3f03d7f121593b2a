// Who looks at the page: the token, kept for this tab only. The server checks it; here it only says what to show.

const KEY = "token";
const ROLES = ["operator", "viewer"];
const changes = new EventTarget();

let token = sessionStorage.getItem(KEY);

function claims(text) {
  try {
    const part = text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(part));
  } catch {
    return null;
  }
}

export const session = {
  why: "",

  get token() {
    return token;
  },

  get role() {
    return token ? claims(token)?.role : null;
  },

  get operator() {
    return session.role === "operator";
  },

  get name() {
    return token ? claims(token)?.sub ?? "" : "";
  },

  /** What is wrong with a token, as far as can be seen from here, where the clock may be wrong; "" where nothing is. */
  fault(text) {
    const found = claims(text);
    if (!found) return "This is not a token: it should be three parts with dots between them.";
    if (!ROLES.includes(found.role)) return `This is a token of role ${found.role}; the control centre needs operator or viewer.`;
    return "";
  },

  signIn(text) {
    token = text;
    session.why = "";
    sessionStorage.setItem(KEY, text);
    changes.dispatchEvent(new Event("change"));
  },

  signOut(why = "") {
    if (!token) return;
    token = null;
    session.why = why;
    sessionStorage.removeItem(KEY);
    changes.dispatchEvent(new Event("change"));
  },

  /** Takes a token out of `#token=…`, and out of the address, where others could read it. */
  takeFromAddress() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return;
    history.replaceState(null, "", "#/");
    const fault = session.fault(given);
    if (fault) session.why = fault;
    else session.signIn(given);
  },

  onChange(listener) {
    changes.addEventListener("change", listener);
  },
};
