// Requests to issuers: no redirects, an end in time, a bound on what is read, https but on loopback.

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** An answer that is not the one asked for; its body is not kept, it may hold anything. */
export class HttpError extends Error {
  constructor(url, status, retryAfter) {
    super(`${url} answered ${status}`);
    this.name = "HttpError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Whether credentials and keys may travel to this address. */
export function isSafe(url, allowInsecure = false) {
  let parsed;
  try {
    parsed = new URL(url);
  } catch {
    return false;
  }
  if (parsed.username || parsed.password) return false;
  if (parsed.protocol === "https:") return true;
  return parsed.protocol === "http:" && (allowInsecure || LOOPBACK.has(parsed.hostname));
}

/** Seconds of a Retry-After in delta form, at most 60; undefined for any other. */
function retryAfter(response) {
  const text = response.headers.get("retry-after") ?? "";
  return /^\d{1,6}$/.test(text) ? Math.min(Number(text), 60) : undefined;
}

/** The error of an answer; lets go of its connection. */
export function failed(url, response) {
  response.body?.cancel().catch(() => {});
  return new HttpError(new URL(url).origin + new URL(url).pathname, response.status, retryAfter(response));
}

/**
 * Asks `url` and reads the whole answer: `{ status, headers, text }`, for a status in `good`.
 * The time (milliseconds) covers the body, too.
 */
export async function ask(context, url, { good = [200], timeout = 10_000, most = 1 << 20, ...init } = {}) {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(timeout)]);
  const response = await context.fetch(url, { ...init, redirect: "error", signal });
  if (!good.includes(response.status)) throw failed(url, response);
  return { status: response.status, headers: response.headers, text: await read(response, most) };
}

async function read(response, most) {
  const parts = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > most) throw new Error(`an answer of more than ${most} bytes`); // ends the stream, too
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** A JSON object, or an error. */
export function object(text) {
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("not a JSON object");
  return value;
}

/** Waits so many milliseconds, or until the signal; never rejects, keeps no process alive. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    timer.unref?.();
    signal.addEventListener("abort", done);
  });
}
