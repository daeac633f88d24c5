// Token Status Lists (draft-ietf-oauth-status-list): one signed list of bits for many tokens.
import { promisify } from "node:util";
import { inflate } from "node:zlib";
import { Cache, SingleFlight } from "./cache.js";
import { invalid, unavailable } from "./errors.js";
import { ask, isSafe } from "./http.js";
import { parse, signedBy } from "./jwt.js";

const inflated = promisify(inflate);
const MOST_BYTES = 16 << 20;
const DEFAULT_TTL = 60;
const MOST_TTL = 3600;

/** The status at `idx` of a list with `bits` per token, the lowest bits of a byte first (§4.1). */
export function statusAt(bytes, bits, idx) {
  const per = 8 / bits;
  const byte = bytes[Math.floor(idx / per)];
  return byte === undefined ? undefined : (byte >> ((idx % per) * bits)) & ((1 << bits) - 1);
}

/** `status.status_list` of a token's claims (§6.2), or undefined when it has none. */
export function reference(claims) {
  const list = claims.status?.status_list;
  if (list === undefined) return undefined;
  if (!Number.isSafeInteger(list?.idx) || list.idx < 0 || typeof list.uri !== "string") throw invalid("status");
  return list;
}

export class StatusLists {
  #issuer;
  #context;
  #lists;
  #flights = new SingleFlight();

  constructor(issuer, context) {
    this.#issuer = issuer;
    this.#context = context;
    this.#lists = new Cache(1000);
  }

  /** Whether the referenced status is VALID. Throws `unavailable` when no list of its ttl can be had. */
  async isValid({ idx, uri }) {
    const list = await this.#list(uri);
    const status = statusAt(list.bytes, list.bits, idx);
    if (status === undefined) throw invalid("status index");
    return status === 0;
  }

  async #list(uri) {
    const held = this.#lists.get(uri);
    const now = this.#context.clock.mono();
    if (held && now < held.until) {
      // Shortly before its end a new one is fetched beside the request.
      if (now > held.until - held.ttl * 200) this.#flights.run(uri, () => this.#fetch(uri, held)).catch(() => {});
      return held;
    }
    try {
      return await this.#flights.run(uri, () => this.#fetch(uri, held));
    } catch (error) {
      if (error?.code === "invalid_token") throw error;
      const { loss } = this.#context;
      if (held && loss.policy === "grace" && now < held.until + loss.seconds * 1000) return held;
      throw unavailable("the status list cannot be had", error);
    }
  }

  #mayAsk(uri) {
    const { allowInsecure, statusListOrigins } = this.#context;
    if (!isSafe(uri, allowInsecure)) return false;
    const { origin } = new URL(uri);
    return origin === new URL(this.#issuer.url).origin || statusListOrigins.includes(origin);
  }

  async #fetch(uri, held) {
    if (!this.#mayAsk(uri)) throw invalid("the status list is elsewhere");
    const asked = this.#context.clock.mono();
    const headers = { accept: "application/statuslist+jwt" };
    if (held?.etag) headers["if-none-match"] = held.etag;
    try {
      const answer = await ask(this.#context, uri, { headers, most: MOST_BYTES, good: held?.etag ? [200, 304] : [200] });
      const read = answer.status === 304 ? held : await this.#read(uri, answer.text.trim());
      const list = { ...read, etag: answer.headers.get("etag") ?? read.etag, until: this.#until(read, asked) };
      this.#lists.set(uri, list);
      return list;
    } catch (error) {
      this.#context.report({ issuer: this.#issuer.url, event: "status_list_failed", error });
      throw error?.code === "invalid_token" ? unavailable("a bad status list", error) : error;
    }
  }

  #until({ ttl, exp }, asked) {
    const left = exp === undefined ? Infinity : exp - this.#context.clock.wall() / 1000;
    if (left <= 0) throw new Error("the status list has expired");
    return asked + Math.min(ttl, left) * 1000;
  }

  /** Checks the list and unpacks it (§5.1, §8.3). */
  async #read(uri, text) {
    const { header, claims } = parse(text);
    await signedBy(this.#issuer, text, header, "statuslist+jwt");
    const { sub, iss, iat, exp, ttl = DEFAULT_TTL, status_list: list } = claims;
    if (sub !== uri || (iss !== undefined && iss !== this.#issuer.url)) throw new Error("another status list");
    const numbers = [iat, exp ?? 0, ttl].every(Number.isFinite);
    if (!numbers || ttl <= 0 || iat > this.#context.clock.wall() / 1000 + 60) throw new Error("a malformed status list");
    if (![1, 2, 4, 8].includes(list?.bits) || typeof list.lst !== "string") throw new Error("a malformed status list");
    const bytes = await inflated(Buffer.from(list.lst, "base64url"), { maxOutputLength: MOST_BYTES });
    return { bytes, bits: list.bits, ttl: Math.min(ttl, MOST_TTL), exp };
  }
}
