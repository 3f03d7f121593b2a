// The HTTP interface: JSON with the token, and one kind of error with a sentence for people.

import { session } from "./session.js";

const BASE = "/api/internal";

/** What the server refused, or that it could not be reached (`status` 0). `message` is for people. */
export class Problem extends Error {
  constructor(status, code, detail, field = null) {
    super(detail);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

async function request(method, path, { query, body, signal } = {}) {
  const address = new URL(BASE + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") address.searchParams.set(name, value);
  }
  const sent = session.token;
  const headers = { Authorization: `Bearer ${sent}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The server cannot be reached at the moment.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? `The server answered ${response.status}.`;
  if (response.status === 401 && sent === session.token) session.signOut(detail);
  throw new Problem(response.status, problem.code ?? "refused", detail, problem.field);
}

export async function get(path, query = {}, signal = undefined) {
  return (await request("GET", path, { query, signal })).json();
}

export async function post(path, body = {}) {
  return (await request("POST", path, { body })).json();
}

export async function put(path, body) {
  return (await request("PUT", path, { body })).json();
}

/** Saves an answer as a file: a link could not carry the token. */
export async function download(path, query, name) {
  const response = await request("GET", path, { query });
  const body = await response.blob().catch(() => {
    throw new Problem(0, "cut_off", "The file was cut off before its end: try again.");
  });
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
