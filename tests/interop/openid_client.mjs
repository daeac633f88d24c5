// openid-client 6, given the issuer URL and credentials alone: code + PKCE, userinfo, refresh,
// introspect, revoke, logout. Exits 0 when all of it worked.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { Browser } from "./form-driver.mjs";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, POST_LOGOUT_REDIRECT_URI, LOGIN, PASSWORD } = process.env;

const authentication = CLIENT_SECRET ? client.ClientSecretBasic(CLIENT_SECRET) : client.None();
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, undefined, authentication, {
  execute: [client.allowInsecureRequests],
});
assert.equal(config.serverMetadata().issuer, ISSUER);

const verifier = client.randomPKCECodeVerifier();
const [state, nonce] = [client.randomState(), client.randomNonce()];
const browser = new Browser();
const login = async () => {
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: REDIRECT_URI,
    scope: "openid email profile offline_access",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
  });
  const back = await browser.walk(url.href, REDIRECT_URI, { username: LOGIN, password: PASSWORD, decision: "allow" });
  return client.authorizationCodeGrant(config, new URL(back), {
    pkceCodeVerifier: verifier,
    expectedState: state,
    expectedNonce: nonce,
    idTokenExpected: true,
  });
};

const tokens = await login();
const claims = tokens.claims();
assert.equal(claims.nonce, nonce);
assert.ok(tokens.refresh_token, "offline_access gives a refresh token");

const user = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.equal(user.email, LOGIN);

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
assert.equal(refreshed.claims().sub, claims.sub);

if (CLIENT_SECRET) {
  const live = await client.tokenIntrospection(config, refreshed.access_token);
  assert.equal(live.active, true);
  assert.equal(live.sub, claims.sub);
}

await client.tokenRevocation(config, refreshed.refresh_token);
if (CLIENT_SECRET) {
  assert.deepEqual(await client.tokenIntrospection(config, refreshed.access_token), { active: false });
}
await assert.rejects(client.refreshTokenGrant(config, refreshed.refresh_token), { error: "invalid_grant" });
await assert.rejects(client.fetchUserInfo(config, refreshed.access_token, claims.sub));

const again = await login();
const logout = client.buildEndSessionUrl(config, {
  id_token_hint: again.id_token,
  post_logout_redirect_uri: POST_LOGOUT_REDIRECT_URI,
  state: "bye",
});
const out = await browser.walk(logout.href, POST_LOGOUT_REDIRECT_URI, { decision: "logout" });
assert.equal(new URL(out).searchParams.get("state"), "bye");

if (CLIENT_SECRET) {
  const own = await client.clientCredentialsGrant(config);
  assert.equal(own.token_type, "bearer");
}
console.log("openid-client: all good");
