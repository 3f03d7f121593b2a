// The HTTP interface: JSON with the token, and one kind of error with a sentence for people.

import { session } from "./session.js";

const BASE = "/api/internal";
const DEADLINE_MS = 15_000;
const DOWNLOAD_MS = 300_000; // of a file, to its end

/** What the server refused, or that it could not be reached (`status` 0). `message` is for people. */
export class Problem extends Error {
  constructor(status, code, detail, field = null) {
    super(detail);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** Asks, and reads the answer; both have to be over by a deadline, or nobody would know whether to wait on. */
async function request(method, path, { query, body, signal, read = (response) => response.json(), deadlineMs = DEADLINE_MS } = {}) {
  const address = new URL(BASE + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") address.searchParams.set(name, value);
  }
  const sent = session.token;
  const headers = { Authorization: `Bearer ${sent}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const late = AbortSignal.timeout(deadlineMs);
  let response;
  let problem;
  try {
    response = await fetch(address, { method, headers, signal: signal ? AbortSignal.any([signal, late]) : late, body: body === undefined ? undefined : JSON.stringify(body) });
    if (response.ok) return await read(response);
    problem = await response.json().catch(() => ({}));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost(method, late.aborted, response, deadlineMs);
  }
  const detail = problem.detail ?? `The server answered ${response.status}.`;
  if (response.status === 401 && sent === session.token) session.signOut(detail);
  throw new Problem(response.status, problem.code ?? "refused", detail, problem.field);
}

/** Why there is no answer, or none to its end. */
function lost(method, late, response, deadlineMs) {
  const maybe = method === "GET" ? "" : " It may have been done nevertheless: look before you try again.";
  if (late) return new Problem(0, "late", `The server did not answer within ${deadlineMs / 1000} s.${maybe}`);
  if (response) return new Problem(0, "cut_off", `The answer was cut off before its end.${maybe || " Try again."}`);
  return new Problem(0, "unreachable", "The server cannot be reached at the moment.");
}

export async function get(path, query = {}, signal = undefined) {
  return request("GET", path, { query, signal });
}

export async function post(path, body = {}) {
  return request("POST", path, { body });
}

export async function put(path, body) {
  return request("PUT", path, { body });
}

/** Saves an answer as a file: a link could not carry the token. */
export async function download(path, query, name) {
  const body = await request("GET", path, { query, read: (response) => response.blob(), deadlineMs: DOWNLOAD_MS });
  const address = URL.createObjectURL(body);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** The way to something, with its id made fit for an address. */
export const path = {
  mitra: (id, rest = "") => `/mitras/${encodeURIComponent(id)}${rest}`,
  pairing: (id, rest = "") => `/pairings/${encodeURIComponent(id)}${rest}`,
  session: (id, rest = "") => `/sessions/${encodeURIComponent(id)}${rest}`,
  login: (sid, rest = "") => `/auth-sessions/${encodeURIComponent(sid)}${rest}`,
  setting: (key, rest = "") => `/config/${encodeURIComponent(key)}${rest}`,
};
