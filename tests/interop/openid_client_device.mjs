// openid-client 6, given the issuer URL and credentials alone: the device grant, refresh, and what
// becomes of a request that the user declines. Exits 0 when all of it worked.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { Browser } from "./form-driver.mjs";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, LOGIN, PASSWORD } = process.env;
const authentication = CLIENT_SECRET ? client.ClientSecretBasic(CLIENT_SECRET) : client.None();
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, undefined, authentication, {
  execute: [client.allowInsecureRequests],
});

const scope = "openid email profile offline_access";
const decide = (codes, decision) =>
  new Browser().finish(codes.verification_uri, {
    user_code: codes.user_code.toLowerCase().replace("-", " "),
    username: LOGIN,
    password: PASSWORD,
    decision: ["login", "continue", decision],
  });

const codes = await client.initiateDeviceAuthorization(config, { scope });
assert.match(codes.user_code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
const polling = client.pollDeviceAuthorizationGrant(config, codes);
await decide(codes, "allow");
const tokens = await polling;
const claims = tokens.claims();
assert.ok(tokens.refresh_token, "offline_access gives a refresh token");
const user = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.equal(user.email, LOGIN);

const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
assert.equal(refreshed.claims().sub, claims.sub);

const declined = await client.initiateDeviceAuthorization(config, { scope });
const waiting = client.pollDeviceAuthorizationGrant(config, declined);
await Promise.all([assert.rejects(waiting, { error: "access_denied" }), decide(declined, "deny")]);
console.log("openid-client, device grant: all good");
