// Token introspection (RFC 7662): the issuer says what a token is, for as long as it says.
import { createHash } from "node:crypto";
import { Cache, SingleFlight } from "./cache.js";
import { authentication } from "./credentials.js";
import { invalid, unavailable } from "./errors.js";
import { ask, object } from "./http.js";
import { Token, audiences, checkTime, meets } from "./jwt.js";

/** Seconds for which an answer may be kept: what its Cache-Control says, else none (RFC 9111 §5.2). */
export function maxAge(headers) {
  const control = (headers.get("cache-control") ?? "").toLowerCase();
  if (/\bno-(store|cache)\b/.test(control)) return 0;
  const stated = /\bmax-age\s*=\s*"?(\d{1,9})/.exec(control);
  const age = /^\d{1,9}$/.test(headers.get("age") ?? "") ? Number(headers.get("age")) : 0;
  return stated ? Math.max(Number(stated[1]) - age, 0) : 0;
}

export class Introspector {
  #issuer;
  #context;
  #answers;
  #flights = new SingleFlight();

  constructor(issuer, context) {
    this.#issuer = issuer;
    this.#context = context;
    this.#answers = new Cache(context.cacheSize);
  }

  /** The token, if it is active and for this API; undefined if it is not active. */
  async introspect(text) {
    const key = createHash("sha256").update(text).digest("base64"); // no token is kept
    const held = this.#answers.get(key);
    if (held && this.#context.clock.mono() < held.until) {
      checkTime(held.claims, this.#context.clock.wall() / 1000, 0);
      return held.token;
    }
    this.#answers.delete(key);
    return this.#flights.run(key, () => this.#ask(text, key));
  }

  async #ask(text, key) {
    const asked = this.#context.clock.mono();
    let answer, claims;
    try {
      const { introspection_endpoint: endpoint } = await this.#issuer.metadata();
      if (!endpoint) throw new Error("the issuer has no introspection");
      const { headers, form } = authentication(this.#issuer.credentials);
      const body = new URLSearchParams({ ...form, token: text, token_type_hint: "access_token" });
      const init = { method: "POST", headers: { ...headers, accept: "application/json" }, body, timeout: 5000 };
      answer = await ask(this.#context, endpoint, init);
      claims = object(answer.text);
    } catch (error) {
      this.#context.report({ issuer: this.#issuer.url, event: "introspection_failed", error });
      throw unavailable("introspection failed", error);
    }
    if (claims.active !== true) return undefined;
    this.#check(claims);
    const kind = text.startsWith("pak_") ? "api_key" : text.includes(".") ? "jwt" : "opaque";
    const token = new Token(kind, this.#issuer.url, claims);
    const lives = Math.min(maxAge(answer.headers), this.#context.introspectionMaxAge);
    if (lives > 0) this.#answers.set(key, { token, claims, until: asked + lives * 1000 });
    return token;
  }

  #check(claims) {
    if (claims.iss !== undefined && claims.iss !== this.#issuer.url) throw invalid("issuer");
    if (claims.cnf !== undefined) throw invalid("bound to a key");
    for (const name of ["exp", "nbf", "iat"]) {
      if (claims[name] !== undefined && !Number.isFinite(claims[name])) throw invalid(name);
    }
    if (claims.scope !== undefined && typeof claims.scope !== "string") throw invalid("scope");
    // Also what keeps refresh tokens out: they are for no API.
    if (!meets(this.#issuer.audience, audiences(claims.aud))) throw invalid("audience");
    checkTime(claims, this.#context.clock.wall() / 1000, this.#context.leeway);
  }
}
