// The example API of an SDK, run as its README says: a token opens it, and does so no longer a moment
// after it is revoked; the answers are RFC 6750's. FOLDER and COMMAND say how to run it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { once } from "node:events";

const { ISSUER, AUDIENCE, FOLDER, COMMAND, SECRET, MODE } = process.env;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return String(port);
}

const port = await freePort();
const [program, ...given] = JSON.parse(COMMAND).map((word) => word.replace("{port}", port));
const environment = { ...process.env, CLIENT_ID: "orders-api", CLIENT_SECRET: SECRET, PORT: port };
const api = spawn(program, given, { cwd: FOLDER, env: environment, stdio: ["ignore", "pipe", "pipe"] });
const said = [];
for (const stream of [api.stdout, api.stderr]) stream.on("data", (data) => said.push(data));
process.on("exit", (code) => {
  api.kill("SIGKILL");
  if (code !== 0) console.error(`the API said:\n${Buffer.concat(said).subarray(-4000)}`);
});

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const basic = (client) => ({ authorization: `Basic ${Buffer.from(`${client}:${SECRET}`).toString("base64")}` });
const post = (path, form) => fetch(ISSUER + path, { method: "POST", headers: basic("web"), body: new URLSearchParams(form) });

async function token(scope) {
  const answer = await post("/token", { grant_type: "client_credentials", scope });
  assert.equal(answer.status, 200);
  return (await answer.json()).access_token;
}

async function ask(path, bearer) {
  const headers = bearer ? { authorization: `Bearer ${bearer}` } : {};
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
  await answer.arrayBuffer();
  return { status: answer.status, challenge: answer.headers.get("www-authenticate") ?? "" };
}

const ready = async () => (await ask("/readyz").catch(() => ({ status: 0 }))).status === 200;
for (const end = Date.now() + 30_000; !(await ready()); await pause(20)) {
  assert.ok(Date.now() < end && api.exitCode === null, "the API gets ready");
}

const [good, spare, narrow] = [await token("orders:read"), await token("orders:read"), await token("orders:write")];
assert.equal((await ask("/orders", good)).status, 200);
assert.equal((await ask("/orders", spare)).status, 200);
assert.equal((await ask("/me", narrow)).status, 200);

const lacking = await ask("/orders", narrow);
assert.equal(lacking.status, 403);
assert.match(lacking.challenge, /error="insufficient_scope".*scope="orders:read"/);
const none = await ask("/orders");
assert.equal(none.status, 401);
assert.doesNotMatch(none.challenge, /error=/);
assert.match(none.challenge, /^Bearer .*resource_metadata="https:\/\/api\.example\/\.well-known\/oauth-protected-resource"/);
assert.match((await ask("/orders", `${good}x`)).challenge, /error="invalid_token"/);

const revoked = await post("/revoke", { token: good });
assert.equal(revoked.status, 200);
const since = performance.now();
while ((await ask("/orders", good)).status === 200) {
  assert.ok(performance.now() - since < (MODE === "feed" ? 1000 : 0), "refused within a second, or at once");
  await pause(5);
}
const took = performance.now() - since;
const late = await ask("/orders", good);
assert.equal(late.status, 401);
assert.match(late.challenge, /error="invalid_token"/);
assert.equal((await ask("/orders", spare)).status, 200, "only what was revoked is refused");

api.kill("SIGTERM");
const [code, signal] = await once(api, "exit");
assert.ok(code === 0 || signal === "SIGTERM", `ends when it is told to: ${code}`);
console.log(`${MODE}: all good, refused ${took.toFixed(0)} ms after the answer at the latest`);
process.exit(0);
