// Express and fetch handlers: the answers of RFC 6750, and nothing more.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import express from "express";
import { now } from "./support/issuer.js";
import { setUp } from "./support/verifier.js";

const METADATA = "https://api.example/.well-known/oauth-protected-resource";
const OPTIONS = { realm: 'the "API"', resourceMetadata: METADATA };
const COMMON = `resource_metadata="${METADATA}"`;

async function told(response) {
  return [response.status, response.headers.get("www-authenticate"), await response.text()];
}

async function refusals(ask, issuer) {
  assert.deepEqual(await told(await ask()), [401, `Bearer realm="the \\"API\\"", scope="orders:read", ${COMMON}`, '{"error":"unauthorized"}']);
  assert.equal((await ask("Basic eDp5")).status, 401);
  const [status, challenge, body] = await told(await ask(`Bearer ${await issuer.token({ exp: now() - 60 })}`));
  const invalid = 'error="invalid_token", error_description="The access token is not valid."';
  assert.deepEqual([status, challenge, body], [401, `Bearer realm="the \\"API\\"", ${invalid}, ${COMMON}`, '{"error":"invalid_token"}']);
  const lacking = await told(await ask(`Bearer ${await issuer.token({ scope: "other" })}`));
  assert.equal(lacking[0], 403);
  assert.match(lacking[1], /error="insufficient_scope", .*scope="orders:read", resource_metadata=/);
  assert.equal((await ask("Bearer")).status, 400);
  assert.equal((await ask("Bearer a b")).status, 400);
  const good = await ask(`bearer ${await issuer.token()}`);
  assert.deepEqual([good.status, await good.json()], [200, { sub: "ada" }]);
}

test("Express routes are guarded", async (t) => {
  const { issuer, verifier } = await setUp(t, OPTIONS);
  const app = express();
  app.get("/orders", verifier.requireScope("orders:read"), (req, res) => res.json({ sub: req.auth.subject }));
  app.get("/any", verifier.express(), () => {
    throw new Error("the application's own");
  });
  app.use((error, req, res, next) => res.status(500).end(error.message));
  const server = app.listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const ask = (path) => (authorization) =>
    fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: authorization ? { authorization } : {} });
  await refusals(ask("/orders"), issuer);
  assert.deepEqual(await told(await ask("/any")(`Bearer ${await issuer.token()}`)), [500, null, "the application's own"]);
});

test("fetch handlers are guarded", async (t) => {
  const { issuer, verifier } = await setUp(t, OPTIONS);
  const guarded = verifier.handler((request, token, extra) => Response.json({ sub: token.subject, ...extra }), { scopes: ["orders:read"] });
  const ask = (authorization) => guarded(new Request("https://api.example/", { headers: authorization ? { authorization } : {} }));
  await refusals(ask, issuer);
  const request = new Request("https://api.example/", { headers: { authorization: `Bearer ${await issuer.token()}` } });
  assert.deepEqual(await (await guarded(request, { env: 1 })).json(), { sub: "ada", env: 1 });
});

test("what cannot be known is 503 with Retry-After, and says nothing of the cause", async (t) => {
  const { issuer, verifier } = await setUp(t, {}, (issuer) => {
    issuer.instead["/jwks.json"] = (req, res) => res.writeHead(500).end("secret detail");
  });
  const guarded = verifier.handler(() => new Response("in"));
  const response = await guarded(new Request("https://api.example/", { headers: { authorization: `Bearer ${await issuer.token()}` } }));
  assert.deepEqual(await told(response), [503, null, '{"error":"temporarily_unavailable"}']);
  assert.equal(response.headers.get("retry-after"), "1");
  assert.deepEqual(verifier.refusal(new Error("a bug")).body, '{"error":"server_error"}');
});
