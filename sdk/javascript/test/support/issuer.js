// An issuer in this process: keys, metadata, tokens, feed, introspection, status lists.
import { once } from "node:events";
import { createServer } from "node:http";
import { deflateSync } from "node:zlib";
import { SignJWT, exportJWK, generateKeyPair } from "jose";
import { digest } from "../../src/revoked.js";

export const AUDIENCE = "https://api.example";
export const CREDENTIALS = { clientId: "my api", clientSecret: "a+b%c" };
export const now = () => Math.floor(Date.now() / 1000);

export class FakeIssuer {
  keys = new Map();
  published = new Set();
  count = {};
  entries = [];
  epoch = "e1";
  streams = new Set();
  /** The cursor of each request to the feed. */
  asked = [];
  /** Path → a function that answers instead. */
  instead = {};
  feedTokens = new Set();
  feedTokenLives = 600;
  heartbeat = 50;
  active = new Map();
  cacheControl = "no-store";
  lists = new Map();

  static async start(path = "/t/acme") {
    const self = new FakeIssuer();
    self.path = path;
    await self.addKey("k1", "ES256");
    self.server = createServer((req, res) => self.#answer(req, res).catch((error) => res.destroy(error)));
    self.server.listen(0, "127.0.0.1");
    await once(self.server, "listening");
    self.base = `http://127.0.0.1:${self.server.address().port}`;
    self.url = self.base + path;
    return self;
  }

  async stop() {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, "close");
  }

  async addKey(kid, alg) {
    const pair = await generateKeyPair(alg, { extractable: true });
    const jwk = { ...(await exportJWK(pair.publicKey)), kid, alg, use: "sig" };
    this.keys.set(kid, { ...pair, alg, jwk });
    this.published.add(kid);
  }

  claims(extra = {}) {
    return {
      iss: this.url, sub: "ada", aud: AUDIENCE, client_id: "app", iat: now(), exp: now() + 600,
      jti: crypto.randomUUID(), scope: "orders:read", ...extra,
    };
  }

  token(extra = {}, { kid = "k1", typ = "at+jwt", ...header } = {}) {
    const { privateKey, alg } = this.keys.get(kid);
    return new SignJWT(this.claims(extra)).setProtectedHeader({ alg, typ, kid, ...header }).sign(privateKey);
  }

  // The feed.

  cursor() {
    return `${this.epoch}.${this.entries.length}`;
  }

  page(from = 0, more = false) {
    return { iss: this.url, cursor: this.cursor(), more, as_of: Date.now(), entries: this.entries.slice(from) };
  }

  /** Appends entries and tells every stream. */
  revoke(...entries) {
    const from = this.entries.length;
    for (const { key, ...entry } of entries) {
      this.entries.push({ exp: now() + 660, ...entry, ...(key && { h: digest(key) }) });
    }
    for (const stream of this.streams) this.#event(stream, "revoked", this.page(from), this.cursor());
  }

  /** A new epoch, as after a restore: the entries are only those given. */
  newEpoch(epoch, entries = []) {
    this.epoch = epoch;
    this.entries = entries;
  }

  cutStreams() {
    for (const stream of this.streams) stream.destroy();
  }

  #event(res, name, data, id) {
    res.write(`event: ${name}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`);
  }

  async #answer(req, res) {
    const url = new URL(req.url, this.base);
    const route = url.pathname.startsWith(this.path) ? url.pathname.slice(this.path.length) : url.pathname;
    this.count[route] = (this.count[route] ?? 0) + 1;
    const parts = [];
    for await (const part of req) parts.push(part);
    const form = new URLSearchParams(Buffer.concat(parts).toString());
    if (this.instead[route]) return this.instead[route](req, res, url, form);
    if (route.endsWith("/.well-known/openid-configuration")) return json(res, 200, this.metadata());
    if (route === "/jwks.json") return json(res, 200, { keys: [...this.published].map((kid) => this.keys.get(kid).jwk) });
    if (route === "/token") return this.#token(req, res, form);
    if (route === "/introspect") return this.#introspect(req, res, form);
    if (route === "/revocations") return this.#feed(req, res, url);
    if (this.lists.has(route)) return this.#list(req, res, this.lists.get(route));
    return json(res, 404, {});
  }

  metadata() {
    const at = (path) => this.url + path;
    return {
      issuer: this.url, jwks_uri: at("/jwks.json"), token_endpoint: at("/token"),
      introspection_endpoint: at("/introspect"), revocation_feed_endpoint: at("/revocations"),
    };
  }

  #authenticated(req) {
    return req.headers.authorization === `Basic ${Buffer.from("my+api:a%2Bb%25c").toString("base64")}`;
  }

  #token(req, res, form) {
    const good = form.get("grant_type") === "client_credentials" && form.get("scope") === "revocations:read";
    if (!this.#authenticated(req) || !good) return json(res, 401, { error: "invalid_client" });
    const token = crypto.randomUUID();
    this.feedTokens.add(token);
    return json(res, 200, { access_token: token, token_type: "Bearer", expires_in: this.feedTokenLives });
  }

  #introspect(req, res, form) {
    if (!this.#authenticated(req)) return json(res, 401, { error: "invalid_client" });
    const claims = this.active.get(form.get("token"));
    const headers = { "cache-control": claims ? this.cacheControl : "no-store" };
    return json(res, 200, claims ? { active: true, ...claims } : { active: false }, headers);
  }

  #feed(req, res, url) {
    if (!this.feedTokens.has(req.headers.authorization?.slice(7))) return json(res, 401, {});
    const after = req.headers["last-event-id"] ?? url.searchParams.get("after");
    this.asked.push(after ?? null);
    const [epoch, seq] = (after ?? "").split(".");
    if (after !== null && after !== undefined && epoch !== this.epoch) return json(res, 410, {});
    if (req.headers.accept === "text/event-stream") return this.#stream(res, after ? Number(seq) : undefined);
    const from = after ? Number(seq) : 0;
    if (!url.searchParams.has("wait") || from < this.entries.length) return json(res, 200, this.page(from));
    const same = () => epoch === this.epoch;
    return void setTimeout(() => json(res, same() ? 200 : 410, same() ? this.page(from) : {}), 20); // a short "long" poll
  }

  #stream(res, from) {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write("retry: 100\n\n");
    if (from === undefined) {
      const half = this.entries.length >> 1; // in two pieces, as large ones come
      this.#event(res, "snapshot", { ...this.page(), more: true, entries: this.entries.slice(0, half) });
      this.#event(res, "snapshot", this.page(half), this.cursor());
    } else if (from < this.entries.length) this.#event(res, "revoked", this.page(from), this.cursor());
    this.streams.add(res);
    const beat = this.heartbeat && setInterval(() => res.write(`: ${Date.now()}\n\n`), this.heartbeat);
    res.on("close", () => {
      clearInterval(beat);
      this.streams.delete(res);
    });
  }

  /** Publishes a status list; gives its address. */
  async publish(route, bytes, { bits = 1, ttl = 30, typ = "statuslist+jwt", kid = "k1", ...claims } = {}) {
    const { privateKey, alg } = this.keys.get(kid);
    const lst = deflateSync(Buffer.from(bytes)).toString("base64url");
    const payload = { sub: this.url + route, iat: now(), ttl, status_list: { bits, lst }, ...claims };
    const text = await new SignJWT(payload).setProtectedHeader({ alg, typ, kid }).sign(privateKey);
    this.lists.set(route, text);
    return this.url + route;
  }

  #list(req, res, text) {
    const etag = `"${digest(text)}"`;
    const same = req.headers["if-none-match"] === etag;
    res.writeHead(same ? 304 : 200, { "content-type": "application/statuslist+jwt", etag });
    res.end(same ? undefined : text);
  }
}

export function json(res, status, value, headers = {}) {
  res.writeHead(status, { "content-type": "application/json", ...headers });
  res.end(JSON.stringify(value));
}

/** Both clocks of a verifier, ahead of the real ones by what `skip` adds. */
export class Clock {
  ahead = 0;
  wall = () => Date.now() + this.ahead;
  mono = () => performance.now() + this.ahead;
  skip(seconds) {
    this.ahead += seconds * 1000;
  }
}

/** Waits until `check` holds; five seconds are enough for anything here. */
export async function until(check, what = String(check)) {
  for (const end = Date.now() + 5000; Date.now() < end; ) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`not in time: ${what}`);
}
