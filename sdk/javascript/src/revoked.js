// What is revoked, as the feed told it, and which tokens that kills.
import { createHash } from "node:crypto";

const KINDS = ["jti", "head", "grant", "session", "subject", "client", "tenant", "api_key", "kid"];

/** The first 16 bytes of SHA-256, base64url: how the feed names a key. */
export const digest = (key) => createHash("sha256").update(key).digest().subarray(0, 16).toString("base64url");

/** The keys of a token, digested once: `[kind, digest]` pairs. */
export function keysOf(claims, kid) {
  const { jti, gid, gen, sid, sub, client_id: client } = claims;
  const keys = { jti, grant: gid, session: sid, subject: sub, client, api_key: gid, kid };
  if (gid !== undefined && gen !== undefined) keys.head = `${gid}.${gen}`;
  const pairs = Object.entries(keys).filter(([, key]) => key !== undefined && key !== null);
  return [...pairs.map(([kind, key]) => [kind, digest(String(key))]), ["tenant", ""]];
}

const isTime = (value) => value === undefined || (typeof value === "number" && Number.isFinite(value));

function checked(entry) {
  const { k, h = "", nbf, aud, exp } = entry ?? {};
  const list = aud === undefined || (Array.isArray(aud) && aud.every((one) => typeof one === "string"));
  if (typeof k !== "string" || typeof h !== "string" || !list || !isTime(nbf) || !isTime(exp) || exp === undefined) {
    throw new Error("a malformed entry in the feed");
  }
  if (KINDS.includes(k) && (h === "") !== (k === "tenant")) throw new Error("a malformed entry in the feed");
  return { k, h, nbf, aud, exp, next: undefined };
}

const same = (a, b) =>
  a.nbf === b.nbf &&
  (a.aud === b.aud || (a.aud?.length === b.aud?.length && a.aud?.every((one) => b.aud.includes(one))));

export class RevokedSet {
  #kinds = Object.fromEntries(KINDS.map((kind) => [kind, new Map()]));
  #size = 0;
  /** Grows with every entry: an answer for the same version stands. */
  version = 0;

  get size() {
    return this.#size;
  }

  /** Adds a page of entries; the same one may come twice. Kinds of a later server are counted as unknown. */
  add(entries) {
    const good = entries.map(checked); // all of it or nothing
    let unknown = 0;
    for (const entry of good) {
      const kind = this.#kinds[entry.k];
      if (kind) this.#put(kind, entry);
      else unknown += 1;
    }
    if (good.length > 0) this.version += 1;
    return { unknown };
  }

  #put(kind, entry) {
    const first = kind.get(entry.h);
    for (let held = first; held; held = held.next) {
      if (same(held, entry)) {
        held.exp = Math.max(held.exp, entry.exp);
        return;
      }
    }
    entry.next = first;
    kind.set(entry.h, entry);
    this.#size += 1;
  }

  /** Forgets what ended before `now` (seconds): no token that it could match is alive. */
  forget(now) {
    for (const kind of Object.values(this.#kinds)) {
      for (const [h, first] of kind) {
        let kept;
        for (let held = first; held; ) {
          const next = held.next;
          if (held.exp > now) {
            held.next = kept;
            kept = held;
          } else this.#size -= 1;
          held = next;
        }
        if (!kept) kind.delete(h);
        else if (kept !== first) kind.set(h, kept);
      }
    }
  }

  /** Whether any entry matches a token with these keys, `iat` and audiences. */
  matches(keys, iat, audience) {
    for (const [name, h] of keys) {
      for (let entry = this.#kinds[name].get(h); entry; entry = entry.next) {
        const old = entry.nbf === undefined || iat <= entry.nbf;
        if (old && (!entry.aud || entry.aud.some((one) => audience.includes(one)))) return true;
      }
    }
    return false;
  }
}
