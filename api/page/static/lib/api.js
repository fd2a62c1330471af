// Requests to the API. Every failure is a Problem, whose `detail` is the API's own sentence.

import { takeEarly } from "../early.js";

export class Problem extends Error {
  // `status` is 0 if there was no answer. `errors` are [{ field, message }], as in problem details (RFC 9457).
  constructor(status, detail, body = {}) {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.reason = body.reason;
    this.errors = body.errors ?? [];
    this.body = body;
  }
}

export class Api {
  // `onLoginNeeded` is called when the API wants a key and this browser has no session.
  constructor(onLoginNeeded) {
    this.onLoginNeeded = onLoginNeeded;
  }

  // The address of a route; a list among the parameters repeats its name, null and undefined leave it out.
  url(path, params = {}) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(params)) {
      for (const each of [value].flat()) if (each !== null && each !== undefined) query.append(name, each);
    }
    const text = query.toString();
    return new URL(path.replace(/^\//, "") + (text && `?${text}`), document.baseURI.split("#")[0]).href;
  }

  async get(path, params, signal) {
    return (await this.request("GET", this.url(path, params), { signal })).body;
  }

  // The answer with its headers: { body, headers }, for X-Interval.
  getWithHeaders(path, params, signal) {
    return this.request("GET", this.url(path, params), { signal });
  }

  // One page of a list: { rows, next }; `next` is the address of the following page or null.
  async page(path, params, signal) {
    return this.pageAt(this.url(path, params), signal);
  }

  async pageAt(url, signal) {
    const { body, headers } = await this.request("GET", url, { signal });
    const link = /<([^>]*)>;\s*rel="next"/.exec(headers.get("link") ?? "");
    return { rows: body, next: link && new URL(link[1], url).href };
  }

  // Send a body as JSON; returns the answer's body, or null.
  async send(method, path, body, params) {
    const options = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    return (await this.request(method, this.url(path, params), options)).body;
  }

  async request(method, url, options) {
    const early = method === "GET" ? await takeEarly(url) : null;
    const answer = early ?? await fetchOrProblem(url, { method, credentials: "same-origin", ...options });
    const body = await bodyOf(answer);
    if (answer.ok) return { body, headers: answer.headers };
    if (answer.status === 401) this.onLoginNeeded();
    const detail = body?.detail ?? `The server answered ${answer.status} ${answer.statusText}.`;
    throw new Problem(answer.status, detail, body ?? {});
  }
}

async function fetchOrProblem(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached.");
  }
}

async function bodyOf(answer) {
  if (!/json/.test(answer.headers.get("content-type") ?? "")) return null;
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(answer.status, "The answer of the server was cut off.");
  }
}
