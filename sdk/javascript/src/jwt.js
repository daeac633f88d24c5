// JWT access tokens (RFC 9068 §4, RFC 8725): signature and claims, nothing about revocation.
import { compactVerify } from "jose";
import { invalid } from "./errors.js";

const part = (text) => {
  const value = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("not an object");
  return value;
};

/** Header and claims of a JWS in compact form; nothing of it is believed yet. */
export function parse(text) {
  const parts = text.split(".");
  if (parts.length !== 3) throw invalid("malformed");
  try {
    return { header: part(parts[0]), claims: part(parts[1]) };
  } catch (error) {
    throw invalid("malformed", error);
  }
}

/** RFC 7515 §4.1.9: `application/` may be left out, letters may be large. */
export const isType = (typ, wanted) =>
  typeof typ === "string" && [wanted, `application/${wanted}`].includes(typ.toLowerCase());

/** Checks that one of the issuer's keys signed `text` as a `typ`; gives that key. */
export async function signedBy(issuer, text, header, typ) {
  if (!isType(header.typ, typ)) throw invalid("typ");
  if (header.crit !== undefined || header.b64 !== undefined) throw invalid("crit");
  if (typeof header.alg !== "string" || typeof header.kid !== "string") throw invalid("header");
  const key = await issuer.key(header.kid);
  if (!key) throw invalid("unknown key");
  // RFC 8725 §3.1: the key says which algorithm it is for, the token has no say.
  const own = key.byAlgorithm.get(header.alg);
  if (!own) throw invalid("algorithm");
  try {
    await compactVerify(text, own, { algorithms: [header.alg] });
  } catch (error) {
    throw invalid("signature", error);
  }
  return key;
}

const isTime = (value) => typeof value === "number" && Number.isFinite(value);
const isText = (value) => typeof value === "string" && value !== "";

/** `aud` as a list; empty when it is absent or no audience at all. */
export function audiences(aud) {
  const list = Array.isArray(aud) ? aud : [aud];
  return list.every(isText) ? list : [];
}

export const meets = (wanted, audience) => audience.some((one) => wanted.includes(one));

/** Checks the claims that RFC 9068 §2.2 demands, and what they say of this API. */
export function checkClaims(claims, issuer) {
  if (claims.iss !== issuer.url) throw invalid("issuer");
  for (const name of ["sub", "client_id", "jti"]) if (!isText(claims[name])) throw invalid(`no ${name}`);
  for (const name of ["exp", "iat"]) if (!isTime(claims[name])) throw invalid(`no ${name}`);
  if (claims.nbf !== undefined && !isTime(claims.nbf)) throw invalid("nbf");
  if (claims.scope !== undefined && typeof claims.scope !== "string") throw invalid("scope");
  if (!meets(issuer.audience, audiences(claims.aud))) throw invalid("audience");
  // A key-bound token (RFC 7800) is no bearer token, and nothing here proves possession.
  if (claims.cnf !== undefined) throw invalid("bound to a key");
}

/** Checks `exp`, `nbf` and `iat` (RFC 7519 §4.1) at `now`, in seconds. */
export function checkTime(claims, now, leeway) {
  if (claims.exp !== undefined && now >= claims.exp + leeway) throw invalid("expired");
  if (claims.nbf !== undefined && claims.nbf > now + leeway) throw invalid("not yet valid");
  if (claims.iat !== undefined && claims.iat > now + leeway) throw invalid("issued in the future");
}

/** What an application sees of a verified token. */
export class Token {
  constructor(kind, issuer, claims) {
    this.kind = kind;
    this.issuer = issuer;
    this.subject = claims.sub;
    this.clientId = claims.client_id;
    this.audience = Object.freeze(audiences(claims.aud));
    this.scopes = Object.freeze((claims.scope ?? "").split(" ").filter(Boolean));
    this.expiresAt = claims.exp;
    this.claims = Object.freeze(claims);
    Object.freeze(this); // the next request gets the same one
  }

  hasScope(scope) {
    return this.scopes.includes(scope);
  }
}
