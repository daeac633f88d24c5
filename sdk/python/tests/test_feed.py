"""The feed: what it kills, how it goes on, and what happens without it."""

import json
import time

import pytest
from support import AUDIENCE, case, dies, now, refused, set_up, until

from pmp_auth_verify import Grace, VerifyError
from pmp_auth_verify._revoked import RevokedSet, digest, keys_of
from pmp_auth_verify._sse import Event, events

CLAIMS = {"jti": "j", "gid": "g", "gen": 3, "sid": "s", "sub": "u", "client_id": "c"}
KEYS = {
    "jti": "j", "head": "g.3", "grant": "g", "session": "s", "subject": "u", "client": "c",
    "tenant": None, "api_key": "g", "kid": "k1",
}  # fmt: skip
TRANSPORTS = pytest.mark.parametrize("transport", ["sse", "poll"])


def entry(kind, key, **rule):
    return {"k": kind, "exp": now() + 60, **({"h": digest(key)} if key else {}), **rule}


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_kills_its_own_tokens_and_no_other(kind):
    revoked = RevokedSet()
    revoked.add([entry(kind, KEYS[kind])])
    assert revoked.matches(keys_of(CLAIMS, "k1"), 100, [AUDIENCE])
    other = {"jti": "J", "gid": "G", "gen": 4, "sid": "S", "sub": "U", "client_id": "C"}
    assert revoked.matches(keys_of(other, "k2"), 100, [AUDIENCE]) == (kind == "tenant")
    plain = {"jti": "J", "sub": "U", "client_id": "C"}
    assert revoked.matches(keys_of(plain, "k2"), 100, [AUDIENCE]) == (kind == "tenant")


def test_a_key_is_named_by_sixteen_bytes_of_its_digest():
    assert digest("j") == "GJ9AA0vnoZnx-piRZo7jqw"


@pytest.mark.parametrize(
    ("rule", "iat", "dead"),
    [
        ({"nbf": 100}, 100, True), ({"nbf": 100}, 101, False), ({"aud": [AUDIENCE]}, 500, True), ({"aud": ["urn:x"]}, 500, False),
        ({"aud": ["urn:x", AUDIENCE], "nbf": 100}, 100, True), ({"aud": ["urn:x"], "nbf": 100}, 100, False),
        ({"aud": [AUDIENCE], "nbf": 100}, 101, False),
    ],
)  # fmt: skip
def test_nbf_kills_what_was_issued_until_then_aud_what_is_for_that_audience(rule, iat, dead):
    revoked = RevokedSet()
    revoked.add([entry("subject", "u", **rule)])
    assert revoked.matches(keys_of(CLAIMS, "k1"), iat, [AUDIENCE]) == dead


def test_entries_add_up_come_twice_and_are_forgotten_at_their_end():
    revoked = RevokedSet()
    one = {"k": "subject", "h": digest("u"), "exp": 1000}
    revoked.add([one | {"nbf": 10}, one | {"nbf": 20, "exp": 2000}, one | {"nbf": 10, "exp": 1500}])
    assert revoked.size == 2

    def dead(iat):
        return revoked.matches(keys_of(CLAIMS, "k1"), iat, [AUDIENCE])

    assert [dead(10), dead(20), dead(21)] == [True, True, False]
    revoked.forget(1500)
    assert (revoked.size, dead(20)) == (1, True)
    revoked.forget(2000)
    assert (revoked.size, dead(5)) == (0, False)
    assert revoked.add([{"k": "planet", "h": "x", "exp": 1}]) == 1
    for bad in ({"k": "jti", "exp": 1}, {"k": "jti", "h": "x"}, {"k": "tenant", "h": "x", "exp": 1}, None,
                {"k": "jti", "h": "x", "exp": 1, "aud": "a"}, {"k": "jti", "h": "x", "exp": True}):  # fmt: skip
        with pytest.raises(ValueError, match="malformed"):
            revoked.add([{"k": "jti", "h": "y", "exp": 9}, bad])
    assert revoked.size == 0, "a page counts whole or not at all"


async def pieces(data, size):
    for at in range(0, len(data), size):
        yield data[at : at + size]


@case
async def test_events_are_read_however_the_bytes_are_cut(stack):
    text = '\ufeff: beat\r\nretry: 5\r\n\r\nevent: revoked\rid: 7\rdata: {"ä\u2028":\rdata:1}\r\r: x\n\ndata\n\ndata: end\n\nid: lost'
    wanted = [
        Event("", "beat"), Event("retry", "5"), Event("revoked", '{"ä\u2028":\n1}', "7"), Event("", "x"),
        Event("message", ""), Event("message", "end"),
    ]  # fmt: skip
    for size in (1, 2, 3, 7, 1000):
        assert [event async for event in events(pieces(text.encode(), size))] == wanted, size
    with pytest.raises(ValueError, match="more than 50"):
        [event async for event in events(pieces(b"a" * 100, 7), 50)]


@TRANSPORTS
@case
async def test_a_revoked_token_is_refused_others_are_not(stack, transport):
    def prepare(issuer):
        issuer.entries += [entry("jti", "old-1"), entry("jti", "old-2")]

    issuer, verifier, _, _ = await set_up(stack, mode="feed", transport=transport, prepare=prepare)
    await verifier.ready(5)
    for jti in ("old-1", "old-2"):
        await refused(verifier.verify(issuer.token(jti=jti)), "invalid_token", "revoked")
    one, two = issuer.token(jti="1"), issuer.token(jti="2")
    await verifier.verify(one)
    issuer.revoke({"k": "jti", "key": "1"})
    await dies(verifier, one)
    await verifier.verify(two)
    issuer.revoke({"k": "kid", "key": "k1"})
    await dies(verifier, two)
    assert verifier.health() == [{"issuer": issuer.url, "ready": True, "feed": "live", "entries": 4}]


@TRANSPORTS
@case
async def test_a_stale_cursor_brings_a_new_snapshot_and_the_old_entries_stay(stack, transport):
    issuer, verifier, _, _ = await set_up(stack, mode="feed", transport=transport)
    await verifier.ready(5)
    issuer.revoke({"k": "jti", "key": "1"}, {"k": "jti", "key": "3"})
    one, two = issuer.token(jti="1"), issuer.token(jti="2")
    await dies(verifier, one)
    issuer.new_epoch("e2", entry("jti", "2"))
    issuer.cut_streams()
    await dies(verifier, two)
    await refused(verifier.verify(one), "invalid_token", "revoked")
    assert verifier.health()[0]["entries"] == 3


@case
async def test_a_reset_in_the_stream_brings_a_new_snapshot(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="feed")
    await verifier.ready(5)
    issuer.revoke({"k": "jti", "key": "1"})
    one, two = issuer.token(jti="1"), issuer.token(jti="2")
    await dies(verifier, one)
    issuer.new_epoch("e2", entry("jti", "2"))
    issuer.end_streams("event: reset\ndata: {}\n\n")
    await dies(verifier, two)
    await refused(verifier.verify(one), "invalid_token", "revoked")


@case
async def test_a_cut_stream_goes_on_where_it_was(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="feed")
    await verifier.ready(5)
    token = issuer.token(jti="1")
    await verifier.verify(token)
    streams = list(issuer.streams)
    issuer.streams.clear()
    issuer.revoke({"k": "jti", "key": "1"})
    for queue in streams:
        queue.put_nowait(None)
    await dies(verifier, token)
    assert issuer.asked == [None, "e1.0"]


@case
async def test_before_the_snapshot_is_loaded_requests_are_unavailable(stack):
    def prepare(issuer):
        issuer.instead["/revocations"] = lambda _: None  # says nothing

    issuer, verifier, _, _ = await set_up(stack, mode="feed", prepare=prepare)
    token = issuer.token(jti="1")
    await refused(verifier.verify(token), "unavailable", "snapshot")
    await refused(verifier.ready(0.03), "unavailable", "not ready")
    assert verifier.health()[0]["ready"] is False
    issuer.entries.append(entry("jti", "1"))
    del issuer.instead["/revocations"]
    await verifier.ready(10)
    await refused(verifier.verify(token), "invalid_token", "revoked")


@case
async def test_where_streams_do_not_pass_it_polls(stack):
    def prepare(issuer):
        def answer(headers):  # a proxy that knows better
            return 200, {} if headers["accept"] == "text/event-stream" else issuer.page(), {}

        issuer.instead["/revocations"] = answer

    issuer, verifier, _, _ = await set_up(stack, mode="feed", prepare=prepare)
    await verifier.ready(5)
    token = issuer.token(jti="1")
    await verifier.verify(token)
    issuer.revoke({"k": "jti", "key": "1"})
    await dies(verifier, token)


async def lost(stack, on_feed_loss):
    issuer, verifier, clock, events = await set_up(stack, mode="feed", on_feed_loss=on_feed_loss)
    await verifier.ready(5)
    issuer.revoke({"k": "jti", "key": "dead"})
    dead = issuer.token(jti="dead")
    await dies(verifier, dead)
    issuer.instead["/revocations"] = lambda _: (503, {}, {})
    issuer.cut_streams()

    async def noticed():
        return any(event[1] == "feed_failed" for event in events)

    await until(noticed)
    clock.skip(40)
    token = issuer.token(jti="1")
    await verifier.verify(token)
    clock.skip(6)
    await refused(verifier.verify(dead), "invalid_token", "revoked")
    return issuer, verifier, clock, events, token


@case
async def test_a_lost_feed_closes_the_door_and_opens_it_when_it_is_back(stack):
    issuer, verifier, _, events, token = await lost(stack, "fail_closed")
    await refused(verifier.verify(token), "unavailable", "lost")
    assert verifier.health()[0]["feed"] == "lost"
    del issuer.instead["/revocations"]

    async def back():
        try:
            return await verifier.verify(token)
        except VerifyError:
            return False

    await until(back)
    names = [event[1] for event in events]
    assert names.index("feed_lost") < names.index("feed_live")


@case
async def test_a_lost_feed_is_forgiven_for_the_grace_not_longer(stack):
    _, verifier, clock, _, token = await lost(stack, Grace(60))
    await verifier.verify(token)
    clock.skip(50)
    await verifier.verify(token)
    clock.skip(10)
    await refused(verifier.verify(token), "unavailable", "lost")


@case
async def test_with_a_lost_feed_the_issuer_is_asked_if_so_told(stack):
    issuer, verifier, _, _, token = await lost(stack, "introspect")
    await refused(verifier.verify(token), "invalid_token", "not active")
    issuer.active[token] = issuer.claims(jti="1")
    await verifier.verify(token)
    issuer.instead["/introspect"] = lambda _: (500, {}, {})
    await refused(verifier.verify(token), "unavailable", "introspection")


@case
async def test_the_feeds_token_is_renewed_before_its_end_and_after_a_refusal(stack):
    def prepare(issuer):
        issuer.feed_token_lives = 1

    issuer, verifier, _, _ = await set_up(stack, mode="feed", prepare=prepare)
    await verifier.ready(5)

    async def renewed():
        return issuer.count["/token"] >= 2

    await until(renewed)
    issuer.feed_tokens.clear()
    issuer.cut_streams()
    issuer.revoke({"k": "jti", "key": "1"})
    await dies(verifier, issuer.token(jti="1"))


@case
async def test_the_feeds_token_may_come_from_a_function_and_a_failing_one_ends_nothing(stack):
    calls = []

    async def feed_token(issuer):
        calls.append(issuer)
        if len(calls) == 1:
            raise RuntimeError("later")
        return "from-elsewhere"

    def prepare(issuer):
        issuer.feed_tokens.add("from-elsewhere")

    issuer, verifier, _, happened = await set_up(
        stack, mode="feed", credentials=None, feed_token=feed_token, prepare=prepare
    )
    await verifier.ready(5)
    await verifier.verify(issuer.token())
    assert calls[0] == issuer.url
    assert any(event == "feed_failed" and str(error) == "later" for _, event, error in happened)


@case
async def test_another_issuers_feed_is_not_believed(stack):
    def prepare(issuer):
        issuer.instead["/revocations"] = lambda _: (200, issuer.page() | {"iss": "https://id.example"}, {})

    _, verifier, _, happened = await set_up(stack, mode="feed", transport="poll", prepare=prepare)
    await refused(verifier.ready(0.5), "unavailable")
    assert "another issuer" in str(next(error for _, event, error in happened if event == "feed_failed"))


def test_the_check_is_a_matter_of_microseconds_beside_100_000_entries():
    text = json.dumps([{"k": "jti", "h": digest(f"t{i}"), "exp": now() + 600} for i in range(100_000)])
    revoked = RevokedSet()
    started = time.perf_counter()
    revoked.add(json.loads(text))
    loading = time.perf_counter() - started
    keys, audience = keys_of(CLAIMS, "k1"), (AUDIENCE,)
    started = time.perf_counter()
    for iat in range(100_000):
        assert not revoked.matches(keys, iat, audience)
    each = (time.perf_counter() - started) * 10
    print(f"loaded in {loading * 1000:.0f} ms, {each:.2f} µs a check without its memory of the last one")
    assert loading < 5 and each < 20, "ten times what a quiet machine shows would be a fault"
