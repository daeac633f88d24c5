"""Signature and claims: what counts as an access token for this API."""

import asyncio
import hashlib
import hmac
import json

import pytest
from support import AUDIENCE, CREDENTIALS, FakeIssuer, b64, case, now, refused, set_up, until

from pmp_auth_verify import Grace, Issuer, Verifier


@case
async def test_a_good_token_is_read_and_its_scopes_count(stack):
    issuer, verifier, _, _ = await set_up(stack)
    await verifier.ready(5)
    token = await verifier.verify(issuer.token(scope="orders:read orders:write"), ["orders:write"])
    assert (token.kind, token.issuer, token.subject, token.client_id) == ("jwt", issuer.url, "ada", "app")
    assert (token.audience, token.scopes) == ((AUDIENCE,), {"orders:read", "orders:write"})
    assert token.has_scope("orders:read") and not token.has_scope("orders")
    await refused(verifier.verify(issuer.token(), ["orders:write"]), "insufficient_scope")


@case
async def test_claims_that_are_wrong_or_missing_make_a_token_invalid(stack):
    issuer, verifier, _, _ = await set_up(stack)
    wrong = [
        ("audience", {"aud": "https://other.example"}), ("audience", {"aud": None}), ("audience", {"aud": [AUDIENCE, 7]}),
        ("expired", {"exp": now() - 11}), ("no exp", {"exp": None}), ("no exp", {"exp": "9999999999"}),
        ("no exp", {"exp": True}), ("malformed", {"exp": float("inf")}), ("no iat", {"iat": None}),
        ("not yet valid", {"nbf": now() + 30}), ("issued in the future", {"iat": now() + 30}),
        ("no sub", {"sub": None}), ("no client_id", {"client_id": None}), ("no jti", {"jti": None}),
        ("scope", {"scope": ["orders:read"]}), ("bound to a key", {"cnf": {"jkt": "x"}}),
        ("issuer", {"iss": "https://id.example"}), ("issuer", {"iss": f"{issuer.url}/"}), ("issuer", {"iss": None}),
    ]  # fmt: skip
    for reason, claims in wrong:
        await refused(verifier.verify(issuer.token(**claims)), "invalid_token", reason)
    for claims in (
        {"aud": ["https://x.example", AUDIENCE]},
        {"exp": now() - 5},
        {"iat": now() + 5, "nbf": now() + 5},
    ):
        await verifier.verify(issuer.token(**claims))  # within the leeway


@case
async def test_only_an_at_jwt_is_an_access_token(stack):
    issuer, verifier, _, _ = await set_up(stack)
    for typ in ("at+jwt", "application/at+jwt", "AT+JWT"):
        await verifier.verify(issuer.token(typ=typ))
    for typ in ("JWT", "id+jwt", "logout+jwt", None):
        await refused(verifier.verify(issuer.token(typ=typ)), "invalid_token", "typ")


@case
async def test_neither_none_nor_a_mac_nor_another_keys_algorithm_signs_a_token(stack):
    issuer, verifier, _, _ = await set_up(stack, prepare=lambda issuer: issuer.add_key("rsa", "RS256"))
    await verifier.verify(issuer.token(kid="rsa"))
    secret = json.dumps(issuer.keys["k1"][2]).encode()
    for alg in ("none", "None", "HS256", "ES384", "RS256", "PS256"):
        header = {"alg": alg, "typ": "at+jwt", "kid": "k1"}
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(issuer.claims()).encode())}"
        mac = b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())
        for signature in ("", mac):
            await refused(verifier.verify(f"{text}.{signature}"), "invalid_token", "algorithm")
    # A key for RS256 signs no PS256, though RSA could.
    _, payload, signature = issuer.token(kid="rsa").split(".")
    header = b64(json.dumps({"alg": "PS256", "typ": "at+jwt", "kid": "rsa"}).encode())
    await refused(verifier.verify(f"{header}.{payload}.{signature}"), "invalid_token", "algorithm")


@case
async def test_a_signature_that_is_not_the_keys_and_critical_headers_make_a_token_invalid(stack):
    issuer, verifier, _, _ = await set_up(stack)
    stranger = await stack.enter_async_context(FakeIssuer())
    await refused(verifier.verify(stranger.token(iss=issuer.url)), "invalid_token", "signature")
    header, _, signature = issuer.token().split(".")
    forged = b64(json.dumps(issuer.claims(sub="eve")).encode())
    await refused(verifier.verify(f"{header}.{forged}.{signature}"), "invalid_token", "signature")
    await refused(
        verifier.verify(issuer.token(header={"b64": True, "crit": ["b64"]})), "invalid_token", "crit"
    )
    deep = b64(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    for text in ("", "a.b.c", "..", "e30.e30.", "x", "a b", "ä.ä.ä", "pmp_at_x", "pak_x", "pmp_rt_x", "a" * 20_000,
                 f"{deep[:6000]}.e30.", f"{header}.{forged}.{signature}\n"):  # fmt: skip
        await refused(verifier.verify(text), "invalid_token")


@case
async def test_an_unknown_kid_fetches_the_keys_again_but_not_more_often_than_the_cooldown_says(stack):
    issuer, verifier, clock, _ = await set_up(stack, jwks_cooldown=30)
    await verifier.ready(5)
    issuer.add_key("k2", "ES256")
    late = issuer.token(kid="k2")
    await refused(verifier.verify(late), "invalid_token", "unknown key")
    assert issuer.count["/jwks.json"] == 1
    clock.skip(30)
    await verifier.verify(late)
    issuer.keys["nope"] = issuer.keys["k2"]
    for _ in range(5):
        await refused(verifier.verify(issuer.token(kid="nope")), "invalid_token", "unknown key")
    assert issuer.count["/jwks.json"] == 2


@case
async def test_a_key_that_is_no_longer_published_verifies_nothing_not_even_what_it_verified_before(stack):
    issuer, verifier, clock, _ = await set_up(stack, prepare=lambda issuer: issuer.add_key("k2", "EdDSA"))
    token = issuer.token(exp=now() + 9000)
    await verifier.verify(token)
    issuer.published.remove("k1")
    clock.skip(601)
    await verifier.verify(issuer.token(kid="k2", exp=now() + 9000))  # fetches beside it

    async def fetched():
        return issuer.count["/jwks.json"] == 2

    await until(fetched)
    await asyncio.sleep(0.05)
    await refused(verifier.verify(token), "invalid_token", "unknown key")


@case
async def test_several_issuers_each_vouch_for_their_own_tokens_only(stack):
    one = await stack.enter_async_context(FakeIssuer("/t/one"))
    two = await stack.enter_async_context(FakeIssuer(""))
    several = Verifier([one.url, Issuer(two.url, audience="urn:two")], audience=AUDIENCE)
    verifier = await stack.enter_async_context(several)
    await verifier.ready(5)
    assert (await verifier.verify(one.token())).issuer == one.url
    assert (await verifier.verify(two.token(aud="urn:two"))).issuer == two.url
    await refused(verifier.verify(two.token()), "invalid_token", "audience")
    await refused(verifier.verify(two.token(iss=one.url)), "invalid_token", "signature")


@case
async def test_metadata_of_another_issuer_is_not_believed(stack):
    def prepare(issuer):
        other = lambda _: (200, issuer.metadata() | {"issuer": "https://id.example"}, {})  # noqa: E731
        issuer.instead["/.well-known/openid-configuration"] = other

    issuer, verifier, _, events = await set_up(stack, prepare=prepare)
    await refused(verifier.verify(issuer.token()), "unavailable", "keys")
    assert events[0][1] == "keys_failed"


@case
async def test_an_issuer_that_cannot_be_reached_makes_tokens_unknown_not_invalid(stack):
    def prepare(issuer):
        issuer.instead["/jwks.json"] = lambda _: (500, {}, {})

    issuer, verifier, _, _ = await set_up(stack, prepare=prepare)
    await refused(verifier.verify(issuer.token()), "unavailable", "keys")
    del issuer.instead["/jwks.json"]
    await verifier.ready(5)
    await verifier.verify(issuer.token())


@pytest.mark.parametrize(
    "change",
    [
        {"audience": ()}, {"issuers": []}, {"issuers": "http://id.example"}, {"issuers": "https://u:p@id.example"},
        {"issuers": ["https://a", "https://a"]}, {"mode": "feed"}, {"mode": "introspect"}, {"mode": "psychic"},
        {"algorithms": ["HS256"]}, {"leeway": 61}, {"on_feed_loss": "introspect"}, {"on_feed_loss": Grace(-1)},
        {"on_feed_loss": "hope"}, {"transport": "smoke"}, {"cache_size": 0},
    ],  # fmt: skip
)  # fmt: skip
def test_options_that_cannot_work_are_refused_at_once(change):
    options = {"issuers": "https://id.example", "audience": AUDIENCE} | change
    with pytest.raises(ValueError):
        Verifier(options.pop("issuers"), **options)


@case
async def test_after_close_everything_is_unavailable(stack):
    issuer, verifier, _, _ = await set_up(stack, mode="feed", credentials=CREDENTIALS)
    waiting = asyncio.create_task(verifier.ready())
    issuer.instead["/introspect"] = lambda _: None  # says nothing
    asking = asyncio.create_task(verifier.verify("pmp_at_1"))
    await asyncio.sleep(0.05)
    await verifier.close()
    await refused(asking, "unavailable", "closed")
    await asyncio.gather(waiting, return_exceptions=True)
    await refused(verifier.verify(issuer.token()), "unavailable", "closed")
    await refused(verifier.ready(), "unavailable", "closed")
