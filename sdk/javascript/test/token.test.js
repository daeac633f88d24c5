// Signature and claims: what counts as an access token for this API, and the answer to what does not.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { createVerifier } from "../src/index.js";
import { AUDIENCE, CREDENTIALS, FakeIssuer, now } from "./support/issuer.js";
import { refused, setUp } from "./support/verifier.js";

const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("a good token is read, and its scopes count", async (t) => {
  const { issuer, verifier } = await setUp(t);
  await verifier.ready();
  const token = await verifier.verify(await issuer.token({ scope: "orders:read orders:write" }), { scopes: ["orders:write"] });
  assert.deepEqual(
    [token.kind, token.issuer, token.subject, token.clientId, token.audience, token.scopes],
    ["jwt", issuer.url, "ada", "app", [AUDIENCE], ["orders:read", "orders:write"]],
  );
  assert.ok(token.hasScope("orders:read") && !token.hasScope("orders"));
  await refused(verifier.verify(await issuer.token(), { scopes: ["orders:write"] }), "insufficient_scope");
  for (const part of [token, token.claims, token.scopes, token.audience]) assert.ok(Object.isFrozen(part), "it is shared");
});

test("claims that are wrong or missing make a token invalid", async (t) => {
  const { issuer, verifier } = await setUp(t);
  const wrong = {
    audience: { aud: "https://other.example" }, "audience ": { aud: undefined }, "audience  ": { aud: [AUDIENCE, 7] },
    expired: { exp: now() - 11 }, "no exp": { exp: undefined }, "no exp ": { exp: "9999999999" },
    "not yet valid": { nbf: now() + 30 }, "issued in the future": { iat: now() + 30 }, "no iat": { iat: undefined },
    "no sub": { sub: undefined }, "no client_id": { client_id: undefined }, "no jti": { jti: undefined },
    scope: { scope: ["orders:read"] }, "bound to a key": { cnf: { jkt: "x" } },
    issuer: { iss: "https://id.example" }, "issuer ": { iss: `${issuer.url}/` }, "issuer  ": { iss: undefined },
  };
  for (const [reason, claims] of Object.entries(wrong)) {
    await refused(verifier.verify(await issuer.token(claims)), "invalid_token", new RegExp(`^${reason.trim()}$`));
  }
  for (const claims of [{ aud: ["https://x.example", AUDIENCE] }, { exp: now() - 5 }, { iat: now() + 5, nbf: now() + 5 }]) {
    await verifier.verify(await issuer.token(claims)); // within the leeway
  }
});

test("only an at+jwt is an access token", async (t) => {
  const { issuer, verifier } = await setUp(t);
  for (const typ of ["at+jwt", "application/at+jwt", "AT+JWT"]) await verifier.verify(await issuer.token({}, { typ }));
  for (const typ of ["JWT", "id+jwt", "logout+jwt", undefined]) {
    await refused(verifier.verify(await issuer.token({}, { typ: typ ?? null })), "invalid_token", /typ/);
  }
});

test("neither none nor a MAC nor another key's algorithm signs a token", async (t) => {
  const { issuer, verifier } = await setUp(t, {}, (issuer) => issuer.addKey("rsa", "RS256"));
  await verifier.verify(await issuer.token({}, { kid: "rsa" }));
  const publicKey = JSON.stringify(issuer.keys.get("k1").jwk);
  for (const alg of ["none", "None", "HS256", "ES384", "RS256", "PS256"]) {
    const text = `${b64({ alg, typ: "at+jwt", kid: "k1" })}.${b64(issuer.claims())}`;
    const mac = createHmac("sha256", publicKey).update(text).digest("base64url");
    for (const signature of ["", mac]) await refused(verifier.verify(`${text}.${signature}`), "invalid_token", /^(algorithm|malformed)$/);
  }
  // A key for RS256 signs no PS256, though RSA could.
  const [, payload, signature] = (await issuer.token({}, { kid: "rsa" })).split(".");
  await refused(verifier.verify(`${b64({ alg: "PS256", typ: "at+jwt", kid: "rsa" })}.${payload}.${signature}`), "invalid_token", /algorithm/);
});

test("a signature that is not the key's, and critical headers, make a token invalid", async (t) => {
  const { issuer, verifier } = await setUp(t);
  const stranger = await FakeIssuer.start();
  t.after(() => stranger.stop());
  await refused(verifier.verify(await stranger.token({ iss: issuer.url })), "invalid_token", /signature/);
  const [header, , signature] = (await issuer.token()).split(".");
  await refused(verifier.verify(`${header}.${b64(issuer.claims({ sub: "eve" }))}.${signature}`), "invalid_token", /signature/);
  await refused(verifier.verify(await issuer.token({}, { b64: true, crit: ["b64"] })), "invalid_token", /crit/);
  for (const text of ["", "a.b.c", "..", "e30.e30.", "x", "a b", "ä.ä.ä", "pmp_at_x", "pak_x", "pmp_rt_x", "a".repeat(20_000)]) {
    await refused(verifier.verify(text), "invalid_token");
  }
});

test("an unknown kid fetches the keys again, but not more often than the cooldown says", async (t) => {
  const { issuer, verifier, clock } = await setUp(t, { jwksCooldown: 30 });
  await verifier.ready();
  await issuer.addKey("k2", "ES256");
  const late = await issuer.token({}, { kid: "k2" });
  await refused(verifier.verify(late), "invalid_token", /unknown key/);
  assert.equal(issuer.count["/jwks.json"], 1);
  clock.skip(30);
  await verifier.verify(late);
  issuer.keys.set("nope", issuer.keys.get("k2"));
  for (let i = 0; i < 5; i += 1) await refused(verifier.verify(await issuer.token({}, { kid: "nope" })), "invalid_token");
  assert.equal(issuer.count["/jwks.json"], 2);
});

test("a key that the issuer no longer publishes verifies nothing, not even what it verified before", async (t) => {
  const { issuer, verifier, clock } = await setUp(t, {}, (issuer) => issuer.addKey("k2", "EdDSA"));
  const token = await issuer.token({ exp: now() + 9000 });
  await verifier.verify(token);
  issuer.published.delete("k1");
  clock.skip(601);
  await verifier.verify(await issuer.token({ exp: now() + 9000, iat: now() + 600 }, { kid: "k2" })); // fetches beside it
  for (let i = 0; i < 500 && issuer.count["/jwks.json"] < 2; i += 1) await new Promise((wait) => setTimeout(wait, 5));
  await new Promise((wait) => setTimeout(wait, 50));
  await refused(verifier.verify(token), "invalid_token", /unknown key/);
});

test("several issuers each vouch for their own tokens only", async (t) => {
  const [one, two] = [await FakeIssuer.start("/t/one"), await FakeIssuer.start("")];
  t.after(() => Promise.all([one.stop(), two.stop()]));
  const verifier = createVerifier({ issuers: [one.url, { issuer: two.url, audience: "urn:two" }], audience: AUDIENCE });
  t.after(() => verifier.close());
  await verifier.ready();
  assert.equal((await verifier.verify(await one.token())).issuer, one.url);
  assert.equal((await verifier.verify(await two.token({ aud: "urn:two" }))).issuer, two.url);
  await refused(verifier.verify(await two.token()), "invalid_token", /audience/);
  await refused(verifier.verify(await two.token({ iss: one.url })), "invalid_token", /signature/);
});

test("metadata of another issuer, and keys over plain http, are not believed", async (t) => {
  const { issuer, verifier, events } = await setUp(t, {}, (issuer) => {
    issuer.instead["/.well-known/openid-configuration"] = (req, res) =>
      res.end(JSON.stringify({ ...issuer.metadata(), issuer: "https://id.example" }));
  });
  await refused(verifier.verify(await issuer.token()), "unavailable", /keys/);
  assert.match(events[0].error.message, /404|another issuer/);
  assert.throws(() => createVerifier({ issuers: "http://id.example", audience: AUDIENCE }), /https/);
});

test("an issuer that cannot be reached makes tokens unknown, not invalid", async (t) => {
  const { issuer, verifier } = await setUp(t, {}, (issuer) => {
    issuer.instead["/jwks.json"] = (req, res) => res.writeHead(500).end();
  });
  await refused(verifier.verify(await issuer.token()), "unavailable");
  delete issuer.instead["/jwks.json"];
  await verifier.ready({ timeout: 5000 });
  await verifier.verify(await issuer.token());
});

test("options that cannot work are refused at once", () => {
  const good = { issuers: "https://id.example", audience: AUDIENCE };
  const bad = [
    { ...good, audience: undefined }, { ...good, issuers: [] }, { ...good, mode: "feed" }, { ...good, mode: "x" },
    { ...good, mode: "introspect" }, { ...good, algorithms: ["HS256"] }, { ...good, leeway: 61 }, { ...good, typo: 1 },
    { ...good, onFeedLoss: "introspect" }, { ...good, onFeedLoss: { grace: -1 } }, { ...good, issuers: ["https://a", "https://a"] },
    { ...good, credentials: { clientId: "x" } }, { ...good, transport: "smoke" },
  ];
  for (const options of bad) assert.throws(() => createVerifier(options), TypeError, JSON.stringify(options));
});

test("after close everything is unavailable, and ready rejects", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "feed", credentials: CREDENTIALS });
  verifier.close();
  await refused(verifier.verify(await issuer.token()), "unavailable", /closed/);
  await refused(verifier.ready(), "unavailable", /closed/);
});
