// One issuer: its metadata (RFC 8414, OpenID Connect Discovery) and its keys (RFC 7517).
import { importJWK } from "jose";
import { unavailable } from "./errors.js";
import { ask, isSafe, object } from "./http.js";

const METADATA_SECONDS = 3600;
const KEYS_SECONDS = 600;
/** Longer than any token of a client lives by default: older keys have nothing left to say. */
const STALE_SECONDS = 3600;

/** What a key may sign: its own `alg`, else what its type allows. Never `none`, never a MAC. */
function algorithms(jwk) {
  const possible = {
    EC: { "P-256": ["ES256"], "P-384": ["ES384"], "P-521": ["ES512"] }[jwk.crv] ?? [],
    RSA: ["RS256", "PS256", "RS384", "PS384", "RS512", "PS512"],
    OKP: jwk.crv === "Ed25519" ? ["EdDSA", "Ed25519"] : [],
  }[jwk.kty] ?? [];
  return jwk.alg === undefined ? possible : possible.filter((alg) => alg === jwk.alg);
}

const signs = (jwk) =>
  (jwk.use === undefined || jwk.use === "sig") &&
  (jwk.key_ops === undefined || (Array.isArray(jwk.key_ops) && jwk.key_ops.includes("verify")));

export class Issuer {
  #context;
  #metadata;
  #metadataAt = -Infinity;
  #keys;
  #keysAt = -Infinity;
  #triedAt = -Infinity;
  #failure;
  #fetching;

  constructor(settings, context) {
    Object.assign(this, settings); // url, audience, credentials, feedToken, algorithms, opaque
    this.#context = context;
  }

  #age(since) {
    return (this.#context.clock.mono() - since) / 1000;
  }

  /** The metadata, at most an hour old, or older while no newer can be had. */
  async metadata() {
    if (this.#metadata && this.#age(this.#metadataAt) < METADATA_SECONDS) return this.#metadata;
    try {
      this.#metadata = await this.#discover();
      this.#metadataAt = this.#context.clock.mono();
    } catch (error) {
      if (!this.#metadata) throw error;
    }
    return this.#metadata;
  }

  async #discover() {
    const { origin, pathname } = new URL(this.url);
    const path = pathname.replace(/\/$/, "");
    const places = [
      `${this.url.replace(/\/$/, "")}/.well-known/openid-configuration`,
      `${origin}/.well-known/oauth-authorization-server${path}`, // RFC 8414 §3.1
    ];
    let last;
    for (const place of places) {
      try {
        return this.#checked(object((await ask(this.#context, place, { headers: { accept: "application/json" } })).text));
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  #checked(metadata) {
    // RFC 8414 §3.3: else another issuer's document would do.
    if (metadata.issuer !== this.url) throw new Error("the metadata is another issuer's");
    for (const name of ["jwks_uri", "token_endpoint", "introspection_endpoint", "revocation_feed_endpoint"]) {
      if (metadata[name] !== undefined && !isSafe(metadata[name], this.#context.allowInsecure)) {
        throw new Error(`${name} is not https`);
      }
    }
    if (!metadata.jwks_uri) throw new Error("the metadata has no jwks_uri");
    return metadata;
  }

  /** Loads the keys if there are none. */
  async load() {
    if (!this.#keys) await this.#refresh();
  }

  /**
   * The key `kid`, or undefined when the issuer has none of that name. An unknown name makes it
   * look again, but not more often than every `jwksCooldown` seconds: anyone can write a `kid`.
   */
  async key(kid) {
    if (this.#usable() && this.#keys.has(kid)) return this.#keys.get(kid);
    const wait = this.#keys && !this.#failure ? this.#context.jwksCooldown : 1;
    if (this.#fetching || this.#age(this.#triedAt) >= wait) {
      await this.#refresh().catch(() => {});
    }
    if (this.#failure || !this.#usable()) throw unavailable("the keys cannot be had", this.#failure);
    return this.#keys.get(kid);
  }

  /** Whether a key that verified before is still one of the issuer's. Never waits. */
  trusts(key) {
    return this.#usable() && this.#keys.get(key.kid) === key;
  }

  #usable() {
    if (!this.#keys) return false;
    const age = this.#age(this.#keysAt);
    if (age < KEYS_SECONDS) return true;
    if (!this.#fetching && this.#age(this.#triedAt) >= Math.min(this.#context.jwksCooldown, 30)) {
      this.#refresh().catch(() => {});
    }
    return age < STALE_SECONDS;
  }

  #refresh() {
    this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined));
    return this.#fetching;
  }

  async #fetch() {
    this.#triedAt = this.#context.clock.mono();
    try {
      const { jwks_uri } = await this.metadata();
      const accept = "application/jwk-set+json, application/json";
      const { keys } = object((await ask(this.#context, jwks_uri, { headers: { accept } })).text);
      if (!Array.isArray(keys)) throw new Error("not a key set");
      this.#keys = await this.#imported(keys);
      this.#keysAt = this.#context.clock.mono();
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
      this.#context.report({ issuer: this.url, event: "keys_failed", error });
      throw error;
    }
  }

  /** Unchanged keys stay the same objects: tokens that they verified stay verified. */
  async #imported(jwks) {
    const keys = new Map();
    for (const jwk of jwks) {
      if (typeof jwk?.kid !== "string" || !signs(jwk)) continue;
      const text = JSON.stringify([jwk.kty, jwk.crv, jwk.x, jwk.y, jwk.n, jwk.e, jwk.alg]);
      const held = this.#keys?.get(jwk.kid);
      if (held?.text === text) {
        keys.set(jwk.kid, held);
        continue;
      }
      const allowed = algorithms(jwk).filter((alg) => !this.algorithms || this.algorithms.includes(alg));
      const { kty, crv, x, y, n, e } = jwk; // only what is public
      const byAlgorithm = new Map();
      for (const alg of allowed) {
        try {
          byAlgorithm.set(alg, await importJWK({ kty, crv, x, y, n, e }, alg));
        } catch {
          // A key that this runtime cannot use verifies nothing.
        }
      }
      if (byAlgorithm.size > 0) keys.set(jwk.kid, { kid: jwk.kid, text, byAlgorithm });
    }
    return keys;
  }
}
