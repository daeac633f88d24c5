// An API behind @pmp-auth/verify. Configuration by environment:
//   ISSUER, AUDIENCE, CLIENT_ID, CLIENT_SECRET; MODE (feed), PORT (3001).
import express from "express";
import { createVerifier } from "@pmp-auth/verify";

const { ISSUER, AUDIENCE, CLIENT_ID, CLIENT_SECRET, MODE = "feed", PORT = "3001" } = process.env;

const verifier = createVerifier({
  issuers: ISSUER,
  audience: AUDIENCE,
  mode: MODE,
  credentials: { clientId: CLIENT_ID, clientSecret: CLIENT_SECRET },
  onFeedLoss: { grace: 60 },
  resourceMetadata: new URL("/.well-known/oauth-protected-resource", AUDIENCE).href,
  onEvent: ({ event, error }) => console.error(event, error?.message ?? ""),
});

const app = express();
app.get("/readyz", (req, res) => res.sendStatus(verifier.health().every(({ ready }) => ready) ? 200 : 503));
app.get("/me", verifier.express(), (req, res) => res.json({ subject: req.auth.subject, client: req.auth.clientId }));
app.get("/orders", verifier.requireScope("orders:read"), (req, res) => res.json({ orders: [], for: req.auth.subject }));

const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    verifier.close();
    server.close();
    server.closeAllConnections();
  });
}
