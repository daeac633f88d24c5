import assert from "node:assert/strict";
import { createVerifier } from "../../src/index.js";
import { AUDIENCE, CREDENTIALS, Clock, FakeIssuer } from "./issuer.js";

/** An issuer and a verifier of it; both end with the test. */
export async function setUp(t, options = {}, prepare = () => {}) {
  const issuer = await FakeIssuer.start();
  t.after(() => issuer.stop());
  await prepare(issuer);
  const clock = new Clock();
  const events = [];
  const verifier = createVerifier({
    issuers: issuer.url, audience: AUDIENCE, clock, onEvent: (event) => events.push(event),
    ...(options.mode && options.mode !== "local" && { credentials: CREDENTIALS }), ...options,
  });
  t.after(() => verifier.close());
  return { issuer, verifier, clock, events };
}

/** Asserts that `promise` fails with this code (and reason). */
export async function refused(promise, code, reason) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.code, code, error.stack);
    if (reason) assert.match(error.reason, reason);
    return true;
  });
}
