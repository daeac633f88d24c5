// The feed: what it kills, how it goes on, and what happens without it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RevokedSet, digest, keysOf } from "../src/revoked.js";
import { events } from "../src/sse.js";
import { AUDIENCE, CREDENTIALS, json, now, until } from "./support/issuer.js";
import { refused, setUp } from "./support/verifier.js";

const dies = async (verifier, token) => {
  await until(() => verifier.verify(token).then(() => false, (error) => error.reason === "revoked"), "revoked");
};

const CLAIMS = { jti: "j", gid: "g", gen: 3, sid: "s", sub: "u", client_id: "c" };
const KEYS = {
  jti: "j", head: "g.3", grant: "g", session: "s", subject: "u", client: "c", tenant: undefined, api_key: "g", kid: "k1",
};

test("each kind kills its own tokens and no other", () => {
  for (const [k, key] of Object.entries(KEYS)) {
    const set = new RevokedSet();
    set.add([{ k, ...(key && { h: digest(key) }), exp: now() + 60 }]);
    assert.ok(set.matches(keysOf(CLAIMS, "k1"), 100, [AUDIENCE]), k);
    const other = { jti: "J", gid: "G", gen: 4, sid: "S", sub: "U", client_id: "C" };
    assert.equal(set.matches(keysOf(other, "k2"), 100, [AUDIENCE]), k === "tenant", k);
    assert.equal(set.matches(keysOf({ jti: "J", sub: "U", client_id: "C" }, "k2"), 100, [AUDIENCE]), k === "tenant", k);
  }
  assert.equal(digest("j"), "GJ9AA0vnoZnx-piRZo7jqw", "16 bytes of SHA-256, base64url");
});

test("nbf kills what was issued until then, aud what is for that audience", () => {
  const cases = [
    [{ nbf: 100 }, 100, true], [{ nbf: 100 }, 101, false], [{ aud: [AUDIENCE] }, 500, true], [{ aud: ["urn:x"] }, 500, false],
    [{ aud: ["urn:x", AUDIENCE], nbf: 100 }, 100, true], [{ aud: ["urn:x"], nbf: 100 }, 100, false],
    [{ aud: [AUDIENCE], nbf: 100 }, 101, false],
  ];
  for (const [rule, iat, dead] of cases) {
    const set = new RevokedSet();
    set.add([{ k: "subject", h: digest("u"), exp: now() + 60, ...rule }]);
    assert.equal(set.matches(keysOf(CLAIMS, "k1"), iat, [AUDIENCE]), dead, JSON.stringify(rule));
  }
});

test("entries add up, come twice, and are forgotten at their end", () => {
  const set = new RevokedSet();
  const entry = { k: "subject", h: digest("u"), exp: 1000 };
  set.add([{ ...entry, nbf: 10 }, { ...entry, nbf: 20, exp: 2000 }, { ...entry, nbf: 10, exp: 1500 }]);
  assert.equal(set.size, 2);
  const dead = (iat) => set.matches(keysOf(CLAIMS, "k1"), iat, [AUDIENCE]);
  assert.deepEqual([dead(10), dead(20), dead(21)], [true, true, false]);
  set.forget(1500);
  assert.equal(set.size, 1);
  assert.ok(dead(20));
  set.forget(2000);
  assert.deepEqual([set.size, dead(5)], [0, false]);
  assert.deepEqual(set.add([{ k: "planet", h: "x", exp: 1 }]), { unknown: 1 });
  for (const bad of [{ k: "jti", exp: 1 }, { k: "jti", h: "x" }, { k: "tenant", h: "x", exp: 1 }, { k: "jti", h: "x", exp: 1, aud: "a" }, null]) {
    assert.throws(() => set.add([{ k: "jti", h: "y", exp: 9 }, bad]), /malformed/);
  }
  assert.equal(set.size, 0, "a page counts whole or not at all");
});

test("events are read however the bytes are cut", async () => {
  const text = "\uFEFF: beat\r\nretry: 5\r\n\r\nevent: revoked\rid: 7\rdata: {\"ä\":\rdata:1}\r\r: x\n\ndata\n\ndata: end\n\nid: lost";
  const bytes = new TextEncoder().encode(text);
  const wanted = [{ comment: "beat" }, { retry: 5 }, { event: "revoked", data: '{"ä":\n1}', id: "7" }, { comment: "x" },
    { event: "message", data: "", id: undefined }, { event: "message", data: "end", id: undefined }];
  for (const size of [1, 2, 3, 7, 1000]) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
    assert.deepEqual(await all(events(chunks)), wanted, `chunks of ${size}`);
  }
  await assert.rejects(all(events([new Uint8Array(100).fill(97)], 50)), /more than 50/);
});

async function all(generator) {
  const list = [];
  for await (const one of generator) list.push(one);
  return list;
}

for (const transport of ["sse", "poll"]) {
  test(`a revoked token is refused, others are not (${transport})`, async (t) => {
    const before = [{ k: "jti", h: digest("old-1"), exp: now() + 60 }, { k: "jti", h: digest("old-2"), exp: now() + 60 }];
    const { issuer, verifier } = await setUp(t, { mode: "feed", transport }, (issuer) => issuer.entries.push(...before));
    await verifier.ready({ timeout: 5000 });
    for (const jti of ["old-1", "old-2"]) await refused(verifier.verify(await issuer.token({ jti })), "invalid_token", /revoked/);
    const [one, two] = [await issuer.token({ jti: "1" }), await issuer.token({ jti: "2" })];
    await verifier.verify(one);
    issuer.revoke({ k: "jti", key: "1" });
    await dies(verifier, one);
    await verifier.verify(two);
    issuer.revoke({ k: "kid", key: "k1" });
    await dies(verifier, two);
    assert.deepEqual(verifier.health(), [{ issuer: issuer.url, ready: true, feed: "live", entries: 4 }]);
  });

  test(`a stale cursor brings a new snapshot, and the old entries stay (${transport})`, async (t) => {
    const { issuer, verifier } = await setUp(t, { mode: "feed", transport });
    await verifier.ready({ timeout: 5000 });
    issuer.revoke({ k: "jti", key: "1" }, { k: "jti", key: "3" });
    const [one, two] = [await issuer.token({ jti: "1", exp: now() + 3600 }), await issuer.token({ jti: "2" })];
    await dies(verifier, one);
    issuer.newEpoch("e2", [{ k: "jti", h: digest("2"), exp: now() + 600 }]);
    issuer.cutStreams();
    await dies(verifier, two);
    await refused(verifier.verify(one), "invalid_token", /revoked/);
    assert.equal(verifier.health()[0].entries, 3);
  });
}

test("a reset in the stream brings a new snapshot", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "feed" });
  await verifier.ready({ timeout: 5000 });
  issuer.revoke({ k: "jti", key: "1" });
  const [one, two] = [await issuer.token({ jti: "1" }), await issuer.token({ jti: "2" })];
  await dies(verifier, one);
  const streams = [...issuer.streams];
  issuer.newEpoch("e2", [{ k: "jti", h: digest("2"), exp: now() + 600 }]);
  for (const stream of streams) stream.end("event: reset\ndata: {}\n\n");
  await dies(verifier, two);
  await refused(verifier.verify(one), "invalid_token", /revoked/);
});

test("a cut stream goes on where it was", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "feed" });
  await verifier.ready({ timeout: 5000 });
  const token = await issuer.token({ jti: "1" });
  await verifier.verify(token);
  const streams = [...issuer.streams];
  issuer.streams.clear();
  issuer.revoke({ k: "jti", key: "1" });
  for (const stream of streams) stream.destroy();
  await dies(verifier, token);
  assert.deepEqual(issuer.asked, [null, "e1.0"]);
});

test("before the snapshot is loaded requests are unavailable", async (t) => {
  let answer;
  const { issuer, verifier } = await setUp(t, { mode: "feed" }, (issuer) => {
    issuer.instead["/revocations"] = () => new Promise((resolve) => (answer = resolve)); // says nothing
  });
  await until(() => answer);
  const token = await issuer.token({ jti: "1" });
  await refused(verifier.verify(token), "unavailable", /snapshot/);
  await refused(verifier.ready({ timeout: 30 }), "unavailable", /not ready/);
  assert.equal(verifier.health()[0].ready, false);
  issuer.entries.push({ k: "jti", h: digest("1"), exp: now() + 60 });
  delete issuer.instead["/revocations"];
  issuer.server.closeAllConnections();
  await verifier.ready({ timeout: 5000 });
  await refused(verifier.verify(token), "invalid_token", /revoked/);
});

test("where streams do not pass, it polls", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "feed" }, (issuer) => {
    issuer.instead["/revocations"] = (req, res) => {
      if (req.headers.accept === "text/event-stream") return json(res, 200, {}); // a proxy that knows better
      return json(res, 200, issuer.page());
    };
  });
  await verifier.ready({ timeout: 5000 });
  const token = await issuer.token({ jti: "1" });
  await verifier.verify(token);
  issuer.revoke({ k: "jti", key: "1" });
  await dies(verifier, token);
});

async function lost(t, onFeedLoss) {
  const made = await setUp(t, { mode: "feed", onFeedLoss });
  const { issuer, verifier, clock } = made;
  await verifier.ready({ timeout: 5000 });
  issuer.revoke({ k: "jti", key: "dead" });
  const dead = await issuer.token({ jti: "dead" });
  await dies(verifier, dead);
  issuer.instead["/revocations"] = (req, res) => res.writeHead(503).end();
  issuer.cutStreams();
  clock.skip(40);
  const token = await issuer.token({ jti: "1", iat: now() });
  await verifier.verify(token);
  clock.skip(6);
  await refused(verifier.verify(dead), "invalid_token", /revoked/);
  return { ...made, token };
}

test("a lost feed closes the door, and opens it when it is back", async (t) => {
  const { issuer, verifier, token, events } = await lost(t, "fail_closed");
  await refused(verifier.verify(token), "unavailable", /lost/);
  assert.equal(verifier.health()[0].feed, "lost");
  delete issuer.instead["/revocations"];
  await until(() => verifier.verify(token).then(() => true, () => false), "back");
  const names = events.map(({ event }) => event);
  assert.ok(names.indexOf("feed_lost") >= 0 && names.indexOf("feed_lost") < names.lastIndexOf("feed_live"));
});

test("a lost feed is forgiven for the grace, not longer", async (t) => {
  const { verifier, token, clock } = await lost(t, { grace: 60 });
  await verifier.verify(token);
  clock.skip(50);
  await verifier.verify(token);
  clock.skip(10);
  await refused(verifier.verify(token), "unavailable", /lost/);
});

test("with a lost feed the issuer is asked, if so told", async (t) => {
  const { issuer, verifier, token } = await lost(t, "introspect");
  await refused(verifier.verify(token), "invalid_token", /not active/);
  issuer.active.set(token, issuer.claims({ jti: "1" }));
  await verifier.verify(token);
  issuer.instead["/introspect"] = (req, res) => res.writeHead(500).end();
  await refused(verifier.verify(token), "unavailable");
});

test("the feed's token is renewed before its end, and after a refusal", async (t) => {
  const { issuer, verifier } = await setUp(t, { mode: "feed" }, (issuer) => (issuer.feedTokenLives = 1));
  await verifier.ready({ timeout: 5000 });
  await until(() => issuer.count["/token"] >= 2, "renewed");
  issuer.feedTokens.clear();
  issuer.cutStreams();
  issuer.revoke({ k: "jti", key: "1" });
  await dies(verifier, await issuer.token({ jti: "1" }));
});

test("the feed's token may come from a function, and a failing one ends nothing", async (t) => {
  let calls = 0;
  const { issuer, verifier, events } = await setUp(t, {
    mode: "feed", credentials: undefined,
    feedToken: async () => {
      calls += 1;
      if (calls === 1) throw new Error("later");
      return "from-elsewhere";
    },
  }, (issuer) => issuer.feedTokens.add("from-elsewhere"));
  await verifier.ready({ timeout: 5000 });
  await verifier.verify(await issuer.token());
  assert.ok(events.some(({ event, error }) => event === "feed_failed" && error.message === "later"));
});

test("another issuer's feed is not believed", async (t) => {
  const { verifier, events } = await setUp(t, { mode: "feed", transport: "poll" }, (issuer) => {
    issuer.instead["/revocations"] = (req, res) => json(res, 200, { ...issuer.page(), iss: "https://id.example" });
  });
  await refused(verifier.ready({ timeout: 300 }), "unavailable");
  assert.match(events.find(({ event }) => event === "feed_failed").error.message, /another issuer/);
});

test("the check adds less than two microseconds, beside 100 000 entries loaded within a second", async (t) => {
  const entries = Array.from({ length: 100_000 }, (_, i) => ({ k: "jti", h: digest(`t${i}`), exp: now() + 600 }));
  const text = JSON.stringify(entries);
  const set = new RevokedSet();
  const started = performance.now();
  set.add(JSON.parse(text));
  const loading = performance.now() - started;
  const keys = keysOf(CLAIMS, "k1");
  const rounds = 100_000;
  const begun = performance.now();
  for (let i = 0; i < rounds; i += 1) if (set.matches(keys, i, [AUDIENCE])) throw new Error("not revoked");
  const each = ((performance.now() - begun) * 1000) / rounds;
  t.diagnostic(`loaded in ${loading.toFixed(0)} ms, ${each.toFixed(3)} µs a check without its memory of the last one`);
  assert.ok(loading < 5000 && each < 20, "ten times what a quiet machine shows would be a fault");
});
