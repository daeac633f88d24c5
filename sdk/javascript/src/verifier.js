// The verifier: which issuer, which way to know, and the answer.
import { Cache } from "./cache.js";
import { VerifyError, invalid, refusal, unavailable } from "./errors.js";
import { Feed } from "./feed.js";
import { sleep } from "./http.js";
import { Introspector } from "./introspect.js";
import { Issuer } from "./issuer.js";
import { Token, checkClaims, checkTime, parse, signedBy } from "./jwt.js";
import { checked } from "./options.js";
import { keysOf } from "./revoked.js";
import { StatusLists, reference } from "./statuslist.js";

const MOST_LETTERS = 16_384;
const TOKEN68 = /^[A-Za-z0-9\-._~+/]+=*$/; // RFC 9110 §11.2
const BEARER = /^bearer +([^ ]+)$/i;

export class Verifier {
  #context;
  #presentation;
  #issuers = new Map();
  #verified;
  #closing = new AbortController();
  #loading;

  constructor(options) {
    const { issuers, context, presentation } = checked(options);
    context.signal = this.#closing.signal;
    this.#context = context;
    this.#presentation = presentation;
    this.#verified = new Cache(context.cacheSize);
    for (const settings of issuers) this.#issuers.set(settings.url, this.#served(settings));
    this.#loading = this.#load();
  }

  #served(settings) {
    const issuer = new Issuer(settings, this.#context);
    const introspector = settings.credentials && new Introspector(issuer, this.#context);
    const feed = this.#context.mode === "feed" ? new Feed(issuer, this.#context) : undefined;
    const lists = this.#context.mode === "status_list" ? new StatusLists(issuer, this.#context) : undefined;
    return { issuer, introspector, feed, lists, keysLoaded: false };
  }

  async #load() {
    const all = [...this.#issuers.values()];
    for (const { feed } of all) feed?.start();
    await Promise.all([...all.map((one) => this.#loadKeys(one)), ...all.map(({ feed }) => feed?.loaded)]);
  }

  async #loadKeys(one) {
    for (let pause = 250; !this.#closing.signal.aborted; pause = Math.min(pause * 2, 5000)) {
      try {
        if (this.#context.mode === "introspect") await one.issuer.metadata();
        else await one.issuer.load();
        one.keysLoaded = true;
        return;
      } catch {
        await sleep(pause, this.#closing.signal);
      }
    }
  }

  /** Resolves when requests can be answered: keys are known, and in feed mode the snapshot is loaded. */
  async ready({ timeout = 0 } = {}) {
    const { signal } = this.#closing;
    const stop = timeout > 0 ? AbortSignal.any([signal, AbortSignal.timeout(timeout)]) : signal;
    await new Promise((resolve, reject) => {
      const end = () => reject(unavailable(signal.aborted ? "closed" : "not ready in time"));
      if (stop.aborted) return end();
      stop.addEventListener("abort", end, { once: true });
      this.#loading.then(() => {
        stop.removeEventListener("abort", end);
        resolve();
      });
    });
  }

  /** What is known of each issuer, for a readiness probe. */
  health() {
    return [...this.#issuers.values()].map(({ issuer, feed, keysLoaded }) => {
      const state = feed?.state().state;
      const ready = keysLoaded && state !== "loading" && !this.#closing.signal.aborted;
      return { issuer: issuer.url, ready, ...(feed && { feed: state, entries: feed.size }) };
    });
  }

  /** Ends streams, timers and requests under way. After it every request is answered 503. */
  close() {
    this.#closing.abort(new Error("closed"));
    this.#verified.clear();
  }

  /** The token of an access token's text, or a `VerifyError`. */
  async verify(text, { scopes = [] } = {}) {
    if (this.#closing.signal.aborted) throw unavailable("closed");
    if (typeof text !== "string" || text.length > MOST_LETTERS || !TOKEN68.test(text)) throw invalid("malformed");
    const token = await this.#live(text);
    if (!scopes.every((scope) => token.hasScope(scope))) {
      throw new VerifyError("insufficient_scope", `needs ${scopes.join(" ")}`, { scopes });
    }
    return token;
  }

  /** The same for an `Authorization` header (RFC 6750 §2.1). */
  async authenticate(header, options = {}) {
    if (header === undefined || header === null || header === "") {
      throw new VerifyError("missing_token", "no Authorization header", { scopes: options.scopes });
    }
    const found = BEARER.exec(header);
    if (!found) {
      const ours = /^bearer\b/i.test(header);
      throw new VerifyError(ours ? "invalid_request" : "missing_token", "no bearer token", { scopes: options.scopes });
    }
    return this.verify(found[1], options);
  }

  /** The answer to a refused request: `{ status, headers, body }`. */
  refusal(error) {
    return refusal(error, this.#presentation);
  }

  #live(text) {
    const known = this.#verified.get(text);
    if (known) return this.#standing(known, text);
    if (text.startsWith("pmp_rt_")) throw invalid("a refresh token");
    const opaque = text.startsWith("pmp_at_") || text.startsWith("pak_") || text.split(".").length !== 3;
    return opaque ? this.#opaque(text) : this.#jwt(text);
  }

  async #opaque(text) {
    for (const { issuer, introspector } of this.#issuers.values()) {
      if (!issuer.opaque) continue;
      const token = await introspector.introspect(text);
      if (token) return token;
    }
    throw invalid("not active");
  }

  async #jwt(text) {
    const { header, claims } = parse(text);
    const one = typeof claims.iss === "string" ? this.#issuers.get(claims.iss) : undefined;
    if (!one) throw invalid("issuer");
    if (this.#context.mode === "introspect") return this.#introspected(one, text);
    // Before the signature: what cannot count costs nothing.
    checkClaims(claims, one.issuer);
    checkTime(claims, this.#context.clock.wall() / 1000, this.#context.leeway);
    const key = await signedBy(one.issuer, text, header, "at+jwt");
    const token = new Token("jwt", one.issuer.url, claims);
    const keys = one.feed ? keysOf(claims, header.kid) : [];
    const known = { one, claims, key, token, keys, live: -1, dead: false };
    this.#verified.set(text, known);
    return this.#standing(known, text);
  }

  /** A token with a good signature: does it count now? */
  async #standing(known, text) {
    const { one, claims, key, token } = known;
    try {
      checkTime(claims, this.#context.clock.wall() / 1000, this.#context.leeway);
    } catch (error) {
      this.#verified.delete(text);
      throw error;
    }
    if (!one.issuer.trusts(key)) {
      this.#verified.delete(text); // its key is gone or new: look again
      return this.#jwt(text);
    }
    if (one.feed) return this.#fed(known, text);
    if (one.lists) return this.#listed(known, text);
    return token;
  }

  #fed(known, text) {
    const { one, token } = known;
    const { state, lostFor } = one.feed.state();
    if (state === "loading") throw unavailable("the snapshot is not loaded yet");
    // What is known to be revoked stays so, whatever became of the feed.
    if (one.feed.kills(known)) throw invalid("revoked");
    if (state === "live") return token;
    const { loss } = this.#context;
    if (loss.policy === "introspect") return this.#introspected(one, text);
    if (loss.policy === "grace" && lostFor <= loss.seconds * 1000) return token;
    throw unavailable("the revocation feed is lost");
  }

  async #listed({ one, claims, token }, text) {
    const status = reference(claims);
    if (!status) {
      // Issued before the tenant kept lists, or by a tenant without: only the issuer can know.
      if (one.introspector) return this.#introspected(one, text);
      throw invalid("no status");
    }
    try {
      if (!(await one.lists.isValid(status))) throw invalid("revoked");
    } catch (error) {
      if (error.code !== "unavailable" || this.#context.loss.policy !== "introspect") throw error;
      return this.#introspected(one, text);
    }
    return token;
  }

  async #introspected(one, text) {
    const token = await one.introspector.introspect(text);
    if (!token) throw invalid("not active");
    return token;
  }
}
