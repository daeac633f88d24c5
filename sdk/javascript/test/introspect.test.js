// Introspection and status lists.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inflateSync } from "node:zlib";
import { createVerifier } from "../src/index.js";
import { maxAge } from "../src/introspect.js";
import { statusAt } from "../src/statuslist.js";
import { AUDIENCE, CREDENTIALS, FakeIssuer, now } from "./support/issuer.js";
import { refused, setUp } from "./support/verifier.js";

const asked = (issuer) => issuer.count["/introspect"] ?? 0;

test("the issuer's word counts, for JWTs, opaque tokens and API keys", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "introspect" });
  await verifier.ready();
  const jwt = await issuer.token();
  for (const [text, kind] of [[jwt, "jwt"], ["pmp_at_1", "opaque"], ["pak_1", "api_key"]]) {
    await refused(verifier.verify(text), "invalid_token", /not active/);
    issuer.active.set(text, issuer.claims());
    assert.equal((await verifier.verify(text, { scopes: ["orders:read"] })).kind, kind);
  }
  const wrong = { aud: "urn:x", "aud ": undefined, iss: "https://id.example", exp: now() - 20, cnf: { jkt: "x" } };
  for (const [name, value] of Object.entries(wrong)) {
    issuer.active.set("pmp_at_1", issuer.claims({ [name.trim()]: value }));
    await refused(verifier.verify("pmp_at_1"), "invalid_token");
  }
  issuer.active.set("pmp_rt_1", issuer.claims());
  await refused(verifier.verify("pmp_rt_1"), "invalid_token", /refresh/);
});

test("an answer is kept as long as it says, and never beyond the token's end", async (t) => {
  const { issuer, verifier, clock } = await setUp(t, { mode: "introspect", introspectionMaxAge: 120 });
  const ask = () => verifier.verify("pmp_at_1");
  issuer.active.set("pmp_at_1", issuer.claims({ exp: now() + 60 }));
  await ask();
  await ask();
  assert.equal(asked(issuer), 2, "no-store");
  issuer.cacheControl = "private, max-age=30";
  await ask();
  await ask();
  assert.equal(asked(issuer), 3);
  clock.skip(31);
  issuer.cacheControl = "private, max-age=3000";
  await Promise.all([ask(), ask(), ask()]);
  assert.equal(asked(issuer), 4, "one request for all who wait");
  clock.skip(30);
  await refused(ask(), "invalid_token", /expired/);
  const said = (value, age = "") => maxAge(new Headers({ "cache-control": value, age }));
  assert.deepEqual([said("max-age=5"), said("private, MAX-AGE=5", "3"), said("no-store, max-age=5"), said("no-cache"), said("")], [5, 2, 0, 0, 0]);
});

test("an answer that is none is 503", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "introspect" });
  for (const answer of [(res) => res.writeHead(401).end(), (res) => res.end("<html>"), (res) => res.end("[]"), (res) => res.destroy()]) {
    issuer.instead["/introspect"] = (req, res) => answer(res);
    await refused(verifier.verify("pmp_at_1"), "unavailable");
  }
});

test("in other modes opaque tokens are introspected if there are credentials, at the only issuer that may see them", async (t) => {
  const { issuer, verifier } = await setUp(t, { credentials: CREDENTIALS });
  issuer.active.set("pak_1", issuer.claims());
  assert.equal((await verifier.verify("pak_1")).kind, "api_key");
  const other = await FakeIssuer.start();
  t.after(() => other.stop());
  const both = createVerifier({ issuers: [other.url, issuer.url], audience: AUDIENCE, credentials: CREDENTIALS });
  t.after(() => both.close());
  await refused(both.verify("pak_1"), "invalid_token");
  const chosen = createVerifier({ issuers: [other.url, { issuer: issuer.url, opaque: true }], audience: AUDIENCE, credentials: CREDENTIALS });
  t.after(() => chosen.close());
  await chosen.verify("pak_1");
  assert.equal(asked(other), 0);
});

test("the vectors of the status list draft are read", () => {
  const read = (lst, bits, count) => {
    const bytes = inflateSync(Buffer.from(lst, "base64url"));
    return Array.from({ length: count }, (_, idx) => statusAt(bytes, bits, idx));
  };
  assert.deepEqual(read("eNrbuRgAAhcBXQ", 1, 16), [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]);
  assert.deepEqual(read("eNo76fITAAPfAgc", 2, 12), [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]);
});

const listed = (uri, idx) => ({ status: { status_list: { uri, idx } } });

test("a token is dead when its bit is set, within the list's ttl", async (t) => {
  const { issuer, verifier, clock } = await setUp(t, { mode: "status_list", credentials: undefined });
  const uri = await issuer.publish("/statuslists/1", [0b0000_0010], { ttl: 30 });
  const [zero, one] = [await issuer.token(listed(uri, 0)), await issuer.token(listed(uri, 1))];
  await verifier.verify(zero);
  await refused(verifier.verify(one), "invalid_token", /revoked/);
  await refused(verifier.verify(await issuer.token(listed(uri, 8))), "invalid_token", /index/);
  await issuer.publish("/statuslists/1", [0b0000_0011], { ttl: 30 });
  await verifier.verify(zero);
  assert.equal(issuer.count["/statuslists/1"], 1);
  clock.skip(31);
  await refused(verifier.verify(zero), "invalid_token", /revoked/);
  clock.skip(31);
  await refused(verifier.verify(zero), "invalid_token", /revoked/); // 304
  assert.equal(issuer.count["/statuslists/1"], 3);
  for (const claims of [{}, listed(uri, -1), listed(uri, 1.5), listed(undefined, 0), listed("https://evil.example/l", 0)]) {
    await refused(verifier.verify(await issuer.token(claims)), "invalid_token");
  }
});

test("statuses of more than one bit are dead unless they are VALID", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "status_list" });
  const uri = await issuer.publish("/statuslists/2", [0xc9, 0x44, 0xf9], { bits: 2 });
  const alive = [];
  for (let idx = 0; idx < 12; idx += 1) {
    alive.push(await verifier.verify(await issuer.token(listed(uri, idx))).then(() => 0, (error) => (error.reason === "revoked" ? 1 : 2)));
  }
  assert.deepEqual(alive, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1]);
});

test("a status list that is not the issuer's, not for this address or too old is none", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "status_list" });
  const bad = [
    { typ: "JWT" }, { sub: "https://id.example/statuslists/1" }, { iss: "https://id.example" }, { exp: now() - 1 }, { ttl: 0 },
    { iat: undefined }, { status_list: { bits: 3, lst: "eNrbuRgAAhcBXQ" } }, { status_list: { bits: 1, lst: "AAAA" } }, {},
  ];
  for (const [i, claims] of bad.entries()) {
    const uri = await issuer.publish(`/statuslists/${i}`, [0], claims);
    const verdict = verifier.verify(await issuer.token(listed(uri, 0)));
    if (Object.keys(claims).length > 0) await refused(verdict, "unavailable", /status list/);
    else await verdict;
  }
});

test("without the list the policy counts", async (t) => {
  for (const onFeedLoss of ["fail_closed", { grace: 60 }, "introspect"]) {
    const { issuer, verifier, clock } = await setUp(t, { mode: "status_list", onFeedLoss });
    const uri = await issuer.publish("/statuslists/1", [0], { ttl: 30 });
    const token = await issuer.token(listed(uri, 0));
    await verifier.verify(token);
    issuer.instead["/statuslists/1"] = (req, res) => res.writeHead(500).end();
    clock.skip(31);
    if (onFeedLoss === "introspect") {
      await refused(verifier.verify(token), "invalid_token", /not active/);
      issuer.active.set(token, issuer.claims());
      await verifier.verify(token);
    } else if (onFeedLoss === "fail_closed") await refused(verifier.verify(token), "unavailable", /status list/);
    else {
      await verifier.verify(token);
      clock.skip(60);
      await refused(verifier.verify(token), "unavailable", /status list/);
    }
  }
});
