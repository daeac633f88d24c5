import { express, fetchHandler } from "./middleware.js";
import { Verifier } from "./verifier.js";

export { VerifyError } from "./errors.js";

/** Makes a verifier and starts loading what it needs; see README.md for the options. */
export function createVerifier(options) {
  const verifier = new Verifier(options);
  return {
    ready: (wait) => verifier.ready(wait),
    health: () => verifier.health(),
    close: () => verifier.close(),
    verify: (token, needs) => verifier.verify(token, needs),
    authenticate: (header, needs) => verifier.authenticate(header, needs),
    refusal: (error) => verifier.refusal(error),
    express: () => express(verifier, []),
    requireScope: (...scopes) => express(verifier, scopes),
    handler: (handle, { scopes = [] } = {}) => fetchHandler(verifier, handle, scopes),
  };
}
