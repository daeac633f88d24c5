// What a caller is told when a request is refused (RFC 6750 §3), and nothing more than that.

const STATUS = {
  missing_token: 401,
  invalid_request: 400,
  invalid_token: 401,
  insufficient_scope: 403,
  unavailable: 503,
};

const DESCRIPTION = {
  invalid_request: "The Authorization header is not one bearer token.",
  invalid_token: "The access token is not valid.",
  insufficient_scope: "The access token lacks a scope that this needs.",
};

/**
 * A refused request. `code` is what the caller may know; `reason` (and `cause`) are for your log:
 * they are never part of an answer.
 */
export class VerifyError extends Error {
  constructor(code, reason, { cause, scopes = [], retryAfter = 1 } = {}) {
    super(`${code}: ${reason}`, { cause });
    this.name = "VerifyError";
    this.code = code;
    this.reason = reason;
    this.status = STATUS[code];
    this.scopes = scopes;
    this.retryAfter = retryAfter;
  }
}

export const invalid = (reason, cause) => new VerifyError("invalid_token", reason, { cause });
export const unavailable = (reason, cause) => new VerifyError("unavailable", reason, { cause });

/** A quoted-string (RFC 9110 §5.6.4) of text from the configuration. */
const quoted = (text) => `"${String(text).replace(/[^\x20-\x7e]/g, "").replace(/["\\]/g, "\\$&")}"`;

function challenge(error, { realm, resourceMetadata }) {
  const parts = [];
  if (realm) parts.push(`realm=${quoted(realm)}`);
  // RFC 6750 §3.1: a request without a token is told no error.
  if (DESCRIPTION[error.code]) {
    parts.push(`error="${error.code}"`, `error_description="${DESCRIPTION[error.code]}"`);
  }
  if (error.scopes.length > 0) parts.push(`scope=${quoted(error.scopes.join(" "))}`);
  // RFC 9728 §5.1.
  if (resourceMetadata) parts.push(`resource_metadata=${quoted(resourceMetadata)}`);
  return parts.length > 0 ? `Bearer ${parts.join(", ")}` : "Bearer";
}

/** The whole answer to a refused request: `{ status, headers, body }`. */
export function refusal(error, presentation = {}) {
  const headers = { "cache-control": "no-store", "content-type": "application/json" };
  if (!(error instanceof VerifyError)) {
    return { status: 500, headers, body: '{"error":"server_error"}' };
  }
  if (error.code === "unavailable") {
    headers["retry-after"] = String(error.retryAfter);
    return { status: 503, headers, body: '{"error":"temporarily_unavailable"}' };
  }
  headers["www-authenticate"] = challenge(error, presentation);
  const body = { error: error.code === "missing_token" ? "unauthorized" : error.code };
  return { status: error.status, headers, body: JSON.stringify(body) };
}
