// oauth4webapi 3 as a resource server, given the issuer URL and its audience: JWT access tokens by
// the published keys, and introspection answered as a JWT (RFC 9701). Exits 0 when all of it worked.
import assert from "node:assert/strict";
import * as oauth from "oauth4webapi";

const { ISSUER, OTHER_ISSUER, AUDIENCE, OTHER_AUDIENCE, CLIENT_SECRET } = process.env;
const insecure = { [oauth.allowInsecureRequests]: true };
const worker = { client_id: "worker" };
const api = { client_id: "api" };
const secret = oauth.ClientSecretBasic(CLIENT_SECRET);

const discover = async (issuer) => {
  const url = new URL(issuer);
  const answer = await oauth.discoveryRequest(url, { algorithm: "oauth2", ...insecure }).catch(() => null);
  const fallback = () => oauth.discoveryRequest(url, insecure);
  return oauth.processDiscoveryResponse(url, answer?.status === 200 ? answer : await fallback());
};
const as = await discover(ISSUER);

const token = async (server, parameters = {}) => {
  const answer = await oauth.clientCredentialsGrantRequest(server, worker, secret, parameters, insecure);
  return (await oauth.processClientCredentialsResponse(server, worker, answer)).access_token;
};
const validate = (text) => {
  const request = new Request("http://api/", { headers: { authorization: `Bearer ${text}` } });
  return oauth.validateJwtAccessToken(as, request, AUDIENCE, insecure);
};

const live = await token(as);
const claims = await validate(live);
assert.equal(claims.iss, ISSUER);
assert.equal(claims.client_id, "worker");
assert.equal(claims.aud, AUDIENCE);

const foreign = await token(await discover(OTHER_ISSUER));
const files = await token(as, { resource: OTHER_AUDIENCE });
const [head, body, signature] = live.split(".");
for (const wrong of [foreign, files, `${head}.${body}.${signature.split("").reverse().join("")}`]) {
  await assert.rejects(validate(wrong));
}

const introspect = async (text) => {
  const answer = await oauth.introspectionRequest(as, api, secret, text, { requestJwtResponse: true, ...insecure });
  assert.match(answer.headers.get("content-type"), /^application\/token-introspection\+jwt/);
  const told = await oauth.processIntrospectionResponse(as, api, answer);
  await oauth.validateApplicationLevelSignature(as, answer, insecure);
  return told;
};
const told = await introspect(live);
assert.equal(told.active, true);
assert.equal(told.client_id, "worker");

await oauth.processRevocationResponse(await oauth.revocationRequest(as, worker, secret, live, insecure));
assert.deepEqual(await introspect(live), { active: false });
console.log("oauth4webapi: all good");
