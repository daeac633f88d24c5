"""Introspection and status lists."""

import asyncio

import httpx
import pytest
from support import AUDIENCE, CREDENTIALS, FakeIssuer, case, now, refused, set_up

from pmp_auth_verify import Grace, Issuer, Verifier, VerifyError
from pmp_auth_verify._introspect import max_age
from pmp_auth_verify._statuslist import inflate, status_at


@case
async def test_the_issuers_word_counts_for_jwts_opaque_tokens_and_api_keys(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="introspect")
    await verifier.ready(5)
    for text, kind in ((issuer.token(), "jwt"), ("pmp_at_1", "opaque"), ("pak_1", "api_key")):
        await refused(verifier.verify(text), "invalid_token", "not active")
        issuer.active[text] = issuer.claims()
        assert (await verifier.verify(text, ["orders:read"])).kind == kind
    wrong = (
        {"aud": "urn:x"},
        {"aud": None},
        {"iss": "https://id.example"},
        {"exp": now() - 20},
        {"cnf": {"jkt": "x"}},
    )
    for claims in wrong:
        issuer.active["pmp_at_1"] = issuer.claims(**claims)
        await refused(verifier.verify("pmp_at_1"), "invalid_token")
    issuer.active["pmp_rt_1"] = issuer.claims()
    await refused(verifier.verify("pmp_rt_1"), "invalid_token", "refresh")


@case
async def test_an_answer_is_kept_as_long_as_it_says_and_never_beyond_the_tokens_end(stack):
    issuer, verifier, clock, _ = await set_up(stack, mode="introspect", introspection_max_age=120)
    issuer.active["pmp_at_1"] = issuer.claims(exp=now() + 60)

    async def asked(times):
        for _ in range(times):
            await verifier.verify("pmp_at_1")
        return issuer.count["/introspect"]

    assert await asked(2) == 2, "no-store"
    issuer.cache_control = "private, max-age=30"
    assert await asked(2) == 3
    clock.skip(31)
    issuer.cache_control = "private, max-age=3000"
    await asyncio.gather(*(verifier.verify("pmp_at_1") for _ in range(3)))
    assert await asked(1) == 4, "one request for all who wait"
    clock.skip(30)
    await refused(verifier.verify("pmp_at_1"), "invalid_token", "expired")


@pytest.mark.parametrize(
    ("control", "age", "seconds"),
    [
        ("max-age=5", "", 5),
        ("private, MAX-AGE=5", "3", 2),
        ("no-store, max-age=5", "", 0),
        ("no-cache", "", 0),
        ("", "", 0),
    ],
)
def test_how_long_an_answer_may_be_kept(control, age, seconds):
    assert max_age(httpx.Headers({"cache-control": control, "age": age})) == seconds


@case
async def test_an_answer_that_is_none_is_unavailable(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="introspect")
    for answer in (
        (401, {}, {}),
        (302, {}, {"location": "/"}),
        (200, b"<html>", {}),
        (200, b"[]", {}),
        (200, b"x" * (2 << 20), {}),
    ):
        issuer.instead["/introspect"] = lambda _, answer=answer: answer
        await refused(verifier.verify("pmp_at_1"), "unavailable", "introspection")


@case
async def test_in_other_modes_opaque_tokens_go_to_the_only_issuer_that_may_see_them(stack):
    issuer, verifier, _, _ = await set_up(stack, credentials=CREDENTIALS)
    issuer.active["pak_1"] = issuer.claims()
    assert (await verifier.verify("pak_1")).kind == "api_key"
    other = await stack.enter_async_context(FakeIssuer())
    both = Verifier([other.url, issuer.url], audience=AUDIENCE, credentials=CREDENTIALS)
    await refused((await stack.enter_async_context(both)).verify("pak_1"), "invalid_token")
    chosen = Verifier(
        [other.url, Issuer(issuer.url, opaque=True)], audience=AUDIENCE, credentials=CREDENTIALS
    )
    await (await stack.enter_async_context(chosen)).verify("pak_1")
    assert "/introspect" not in other.count


def test_the_vectors_of_the_status_list_draft_are_read():
    one, two = inflate("eNrbuRgAAhcBXQ"), inflate("eNo76fITAAPfAgc")
    assert [status_at(one, 1, idx) for idx in range(16)] == [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert [status_at(two, 2, idx) for idx in range(12)] == [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
    assert status_at(one, 1, 16) is None


def listed(uri, idx):
    return {"status": {"status_list": {"uri": uri, "idx": idx}}}


@case
async def test_a_token_is_dead_when_its_bit_is_set_within_the_lists_ttl(stack):
    issuer, verifier, clock, _ = await set_up(stack, mode="status_list", credentials=None)
    uri = issuer.publish("/statuslists/1", [0b0000_0010])
    zero, one = issuer.token(**listed(uri, 0)), issuer.token(**listed(uri, 1))
    await verifier.verify(zero)
    await refused(verifier.verify(one), "invalid_token", "revoked")
    await refused(verifier.verify(issuer.token(**listed(uri, 8))), "invalid_token", "index")
    issuer.publish("/statuslists/1", [0b0000_0011])
    await verifier.verify(zero)
    assert issuer.count["/statuslists/1"] == 1
    clock.skip(31)
    await refused(verifier.verify(zero), "invalid_token", "revoked")
    clock.skip(31)
    await refused(verifier.verify(zero), "invalid_token", "revoked")  # 304
    assert issuer.count["/statuslists/1"] == 3
    for claims in (
        {},
        listed(uri, -1),
        listed(uri, 1.5),
        listed(uri, True),
        listed(None, 0),
        listed("https://evil.example/l", 0),
    ):
        await refused(verifier.verify(issuer.token(**claims)), "invalid_token")


@case
async def test_statuses_of_more_than_one_bit_are_dead_unless_they_are_valid(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="status_list")
    uri = issuer.publish("/statuslists/2", [0xC9, 0x44, 0xF9], bits=2)
    dead = []
    for idx in range(12):
        try:
            await verifier.verify(issuer.token(**listed(uri, idx)))
            dead.append(0)
        except VerifyError as error:
            dead.append(1 if error.reason == "revoked" else 2)
    assert dead == [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1]


@case
async def test_a_status_list_that_is_not_the_issuers_not_for_this_address_or_too_old_is_none(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="status_list")
    bad = [
        {"typ": "JWT"}, {"sub": "https://id.example/statuslists/1"}, {"iss": "https://id.example"}, {"exp": now() - 1},
        {"ttl": 0}, {"iat": None}, {"status_list": {"bits": 3, "lst": "eNrbuRgAAhcBXQ"}},
        {"status_list": {"bits": 1, "lst": "AAAA"}}, {"status_list": {"bits": 1, "lst": "eNrbuRgA"}},
    ]  # fmt: skip
    for i, claims in enumerate(bad):
        uri = issuer.publish(f"/statuslists/{i}", [0], **claims)
        await refused(verifier.verify(issuer.token(**listed(uri, 0))), "unavailable", "status list")
    uri = issuer.publish("/statuslists/good", [0])
    await verifier.verify(issuer.token(**listed(uri, 0)))


@pytest.mark.parametrize("policy", ["fail_closed", Grace(60), "introspect"])
@case
async def test_without_the_list_the_policy_counts(stack, policy):
    issuer, verifier, clock, _ = await set_up(stack, mode="status_list", on_feed_loss=policy)
    token = issuer.token(**listed(issuer.publish("/statuslists/1", [0]), 0))
    await verifier.verify(token)
    issuer.instead["/statuslists/1"] = lambda _: (500, {}, {})
    clock.skip(31)
    if policy == "fail_closed":
        await refused(verifier.verify(token), "unavailable", "status list")
    elif policy == "introspect":
        await refused(verifier.verify(token), "invalid_token", "not active")
        issuer.active[token] = issuer.claims()
        await verifier.verify(token)
    else:
        await verifier.verify(token)
        clock.skip(60)
        await refused(verifier.verify(token), "unavailable", "status list")
