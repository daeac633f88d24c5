// The declared types hold: this file is checked, not run.
import { createVerifier, VerifyError, type Token, type Verifier } from "@pmp-auth/verify";

const verifier: Verifier = createVerifier({
  issuers: ["https://id.example/t/a", { issuer: "https://id.example/t/b", audience: "urn:b", opaque: true }],
  audience: "https://api.example",
  mode: "feed",
  feedToken: async ({ issuer }) => issuer,
  onFeedLoss: { grace: 60 },
  onEvent: (event) => (event.event === "feed_failed" ? event.error : event.issuer),
});

const handler: (request: Request, env: { n: number }) => Promise<Response> = verifier.handler(
  (request, token: Token, env: { n: number }) => new Response(`${token.subject} ${env.n} ${request.url}`),
  { scopes: ["x"] },
);

export async function used(): Promise<readonly string[]> {
  await verifier.ready({ timeout: 1000 });
  await handler(new Request("https://api.example"), { n: 1 });
  try {
    return (await verifier.authenticate("Bearer x")).audience;
  } catch (error) {
    if (error instanceof VerifyError && error.code === "insufficient_scope") return error.scopes;
    throw error;
  }
}

// @ts-expect-error: there is no such mode
createVerifier({ issuers: "https://id.example", mode: "psychic" });
// @ts-expect-error: a token is not written to
export const write = (token: Token) => (token.subject = "eve");
