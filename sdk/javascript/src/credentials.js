// How we prove who we are: HTTP Basic at the issuer's endpoints, a bearer token at the feed.
import { ask, object } from "./http.js";

/** RFC 6749 §2.3.1: both halves are form-encoded first. */
const encoded = (text) => new URLSearchParams({ "": text }).toString().slice(1);

/** What authenticates `credentials` in a form request: `{ headers, form }`. */
export function authentication({ clientId, clientSecret, authMethod = "client_secret_basic" }) {
  if (authMethod === "client_secret_post") {
    return { headers: {}, form: { client_id: clientId, client_secret: clientSecret } };
  }
  const pair = Buffer.from(`${encoded(clientId)}:${encoded(clientSecret)}`).toString("base64");
  return { headers: { authorization: `Basic ${pair}` }, form: {} };
}

/** Where the token for the feed comes from: the client credentials, or your own function. */
export class TokenSource {
  #issuer;
  #context;
  #held;

  constructor(issuer, context) {
    this.#issuer = issuer;
    this.#context = context;
  }

  /** `{ token, renewIn }`; `renewIn` (milliseconds) is before its end, Infinity when that is unknown. */
  async get() {
    if (this.#issuer.feedToken) return this.#called();
    const now = this.#context.clock.mono();
    if (!this.#held || now >= this.#held.renewAt) this.#held = await this.#grant();
    return { token: this.#held.token, renewIn: this.#held.renewAt - this.#context.clock.mono() };
  }

  /** The token was refused: the next one is a new one. */
  drop() {
    this.#held = undefined;
  }

  async #called() {
    const token = await this.#issuer.feedToken({ issuer: this.#issuer.url });
    if (typeof token !== "string" || token === "") throw new Error("feedToken gave no token");
    return { token, renewIn: Infinity };
  }

  async #grant() {
    const { token_endpoint } = await this.#issuer.metadata();
    const { headers, form } = authentication(this.#issuer.credentials);
    const body = new URLSearchParams({ ...form, grant_type: "client_credentials", scope: "revocations:read" });
    if (this.#issuer.credentials.resource) body.set("resource", this.#issuer.credentials.resource);
    const asked = this.#context.clock.mono();
    const answer = object((await ask(this.#context, token_endpoint, { method: "POST", headers, body })).text);
    if (typeof answer.access_token !== "string") throw new Error("the token endpoint gave no token");
    const lives = typeof answer.expires_in === "number" && answer.expires_in > 0 ? answer.expires_in : 60;
    // A tenth before its end, and never less than a second after its beginning.
    return { token: answer.access_token, renewAt: asked + Math.max(lives * 900, 1000) };
  }
}
