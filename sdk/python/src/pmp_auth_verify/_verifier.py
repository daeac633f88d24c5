"""The verifier: which issuer, which way to know, and the answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._cache import Cache
from ._credentials import ClientCredentials
from ._errors import Refusal, VerifyError, invalid, refusal, unavailable
from ._feed import Feed
from ._introspect import Introspector
from ._issuer import IssuerKeys, Key
from ._jwt import Token, check_claims, parse, signed_by, time_fault
from ._options import Clock, FeedToken, Grace, Issuer, checked_issuers, context_of
from ._revoked import Keys, keys_of
from ._statuslist import StatusLists, reference

_MOST_LETTERS = 16_384
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")  # RFC 9110 §11.2
_BEARER = re.compile(r"bearer +([^ ]+)\Z", re.IGNORECASE)


@dataclass(eq=False)
class _Served:
    issuer: IssuerKeys
    introspector: Introspector | None
    feed: Feed | None
    lists: StatusLists | None
    keys_loaded: bool = False


@dataclass(eq=False)
class _Known:
    """A token whose signature and claims are good; `live` is the feed's version that did not kill it."""

    one: _Served
    key: Key
    token: Token
    keys: Keys
    live: int = -1
    dead: bool = False


class Verifier:
    """Checks access tokens of one or several issuers; see README.md.

    Use it as `async with Verifier(...) as verifier`, or call `start` and `close`. It belongs to the
    event loop that it was started in.
    """

    def __init__(
        self,
        issuers: str | Issuer | Sequence[str | Issuer],
        *,
        audience: str | Sequence[str] = (),
        mode: str = "local",
        credentials: ClientCredentials | None = None,
        feed_token: FeedToken | None = None,
        on_feed_loss: str | Grace = "fail_closed",
        leeway: float = 10,
        algorithms: Sequence[str] | None = None,
        realm: str | None = None,
        resource_metadata: str | None = None,
        jwks_cooldown: float = 30,
        introspection_max_age: float = 60,
        cache_size: int = 10_000,
        transport: str = "auto",
        status_list_origins: Sequence[str] = (),
        allow_insecure: bool = False,
        on_event: Callable[[str, str, BaseException | None], Any] | None = None,
        clock: Clock | None = None,
    ):
        self._context = context_of(
            mode=mode,
            on_feed_loss=on_feed_loss,
            leeway=leeway,
            jwks_cooldown=jwks_cooldown,
            introspection_max_age=introspection_max_age,
            cache_size=cache_size,
            transport=transport,
            status_list_origins=status_list_origins,
            allow_insecure=allow_insecure,
            on_event=on_event,
            clock=clock,
        )
        common = Issuer("", audience, credentials, feed_token, algorithms)
        checked = checked_issuers(issuers, common, mode, on_feed_loss, allow_insecure)
        self._issuers = {one.issuer: self._served(one) for one in checked}
        self._presentation = (realm, resource_metadata)
        self._verified: Cache[_Known] = Cache(self._context.cache_size)
        self._loading: asyncio.Task[None] | None = None
        self._closed = False

    def _served(self, settings: Issuer) -> _Served:
        issuer = IssuerKeys(settings, self._context)
        credentials, mode = settings.credentials, self._context.mode
        introspector = Introspector(issuer, credentials, self._context) if credentials else None
        feed = Feed(issuer, self._context) if mode == "feed" else None
        lists = StatusLists(issuer, self._context) if mode == "status_list" else None
        return _Served(issuer, introspector, feed, lists)

    def start(self) -> None:
        """Begins to load, in the running event loop. More than once is once."""
        if self._loading is None and not self._closed:
            self._loading = self._context.tasks.start(self._load())

    async def __aenter__(self) -> Verifier:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _load(self) -> None:
        served = self._issuers.values()
        for one in served:
            if one.feed is not None:
                one.feed.start()
        await asyncio.gather(
            *(self._load_keys(one) for one in served),
            *(one.feed.loaded.wait() for one in served if one.feed is not None),
        )

    async def _load_keys(self, one: _Served) -> None:
        pause = 0.25
        while not one.keys_loaded:
            try:
                if self._context.mode == "introspect":
                    await one.issuer.metadata()
                else:
                    await one.issuer.load()
                one.keys_loaded = True
            except Exception:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5)

    async def ready(self, timeout: float | None = None) -> None:
        """Returns when requests can be answered: keys are known, and in feed mode the snapshot is loaded."""
        self.start()
        if self._closed or self._loading is None:
            raise unavailable("closed")
        done, _ = await asyncio.wait([self._loading], timeout=timeout)
        if not done:
            raise unavailable("not ready in time")
        if self._loading.cancelled():
            raise unavailable("closed")

    def health(self) -> list[dict[str, Any]]:
        """What is known of each issuer, for a readiness probe."""
        return [self._health(one) for one in self._issuers.values()]

    def _health(self, one: _Served) -> dict[str, Any]:
        ready = one.keys_loaded and not self._closed
        if one.feed is None:
            return {"issuer": one.issuer.url, "ready": ready}
        loaded = one.feed.loaded.is_set()
        state = "loading" if not loaded else "live" if one.feed.lost_for() is None else "lost"
        return {"issuer": one.issuer.url, "ready": ready and loaded, "feed": state, "entries": one.feed.size}

    async def close(self) -> None:
        """Ends streams and requests under way. After it every request is answered 503."""
        self._closed = True
        self._verified.clear()
        await self._context.tasks.close()
        if self._context.client is not None:
            await self._context.client.aclose()

    async def verify(self, text: str, scopes: Sequence[str] = ()) -> Token:
        """The token of an access token's text, or a `VerifyError`."""
        if self._closed:
            raise unavailable("closed")
        self.start()
        if not isinstance(text, str) or len(text) > _MOST_LETTERS or not _TOKEN68.match(text):
            raise invalid("malformed")
        known = self._verified.get(text)
        token = await (self._read(text) if known is None else self._standing(known, text))
        token.require_scope(*scopes)
        return token

    async def authenticate(self, header: str | None, scopes: Sequence[str] = ()) -> Token:
        """The same for an `Authorization` header (RFC 6750 §2.1)."""
        if not header:
            raise VerifyError("missing_token", "no Authorization header", scopes=scopes)
        found = _BEARER.match(header)
        if found is None:
            ours = re.match(r"bearer\b", header, re.IGNORECASE)
            raise VerifyError(
                "invalid_request" if ours else "missing_token", "no bearer token", scopes=scopes
            )
        return await self.verify(found[1], scopes)

    def refusal(self, error: BaseException) -> Refusal:
        """The answer to a refused request."""
        return refusal(error, *self._presentation)

    async def _read(self, text: str) -> Token:
        if text.startswith("pmp_rt_"):
            raise invalid("a refresh token")
        if text.startswith(("pmp_at_", "pak_")) or text.count(".") != 2:
            return await self._opaque(text)
        return await self._jwt(text)

    async def _opaque(self, text: str) -> Token:
        for one in self._issuers.values():
            if one.issuer.settings.opaque and one.introspector is not None:
                token = await one.introspector.introspect(text)
                if token is not None:
                    return token
        raise invalid("not active")

    async def _jwt(self, text: str) -> Token:
        header, claims = parse(text)
        issuer = claims.get("iss")
        one = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if one is None:
            raise invalid("issuer")
        if self._context.mode == "introspect":
            return await self._introspected(one, text)
        # Before the signature: what cannot count costs nothing.
        check_claims(claims, one.issuer)
        fault = time_fault(claims, self._context.wall(), self._context.leeway)
        if fault is not None:
            raise fault
        key = await signed_by(one.issuer, text, header, "at+jwt")
        keys = keys_of(claims, key.kid) if one.feed is not None else ()
        known = _Known(one, key, Token.of("jwt", one.issuer.url, claims), keys)
        self._verified.set(text, known)
        return await self._standing(known, text)

    async def _standing(self, known: _Known, text: str) -> Token:
        """A token with a good signature: does it count now?"""
        fault = time_fault(known.token.claims, self._context.wall(), self._context.leeway)
        if fault is not None:
            self._verified.delete(text)
            raise fault
        if not known.one.issuer.trusts(known.key):
            self._verified.delete(text)  # its key is gone or new: look again
            return await self._jwt(text)
        if known.one.feed is not None:
            return await self._fed(known, known.one.feed, text)
        if known.one.lists is not None:
            return await self._listed(known, known.one.lists, text)
        return known.token

    async def _fed(self, known: _Known, feed: Feed, text: str) -> Token:
        if not feed.loaded.is_set():
            raise unavailable("the snapshot is not loaded yet")
        lost_for = feed.lost_for()
        if known.live != feed.version:
            token = known.token
            known.dead = known.dead or feed.kills(known.keys, token.claims["iat"], token.audience)
            known.live = feed.version
        # What is known to be revoked stays so, whatever became of the feed.
        if known.dead:
            raise invalid("revoked")
        if lost_for is None or (self._context.loss == "grace" and lost_for <= self._context.grace):
            return known.token
        if self._context.loss == "introspect":
            return await self._introspected(known.one, text)
        raise unavailable("the revocation feed is lost")

    async def _listed(self, known: _Known, lists: StatusLists, text: str) -> Token:
        status = reference(known.token.claims)
        if status is None:
            # Issued before the tenant kept lists, or by a tenant without: only the issuer can know.
            if known.one.introspector is None:
                raise invalid("no status")
            return await self._introspected(known.one, text)
        try:
            valid = await lists.is_valid(*status)
        except VerifyError as error:
            if error.code != "unavailable" or self._context.loss != "introspect":
                raise
            return await self._introspected(known.one, text)
        if not valid:
            raise invalid("revoked")
        return known.token

    async def _introspected(self, one: _Served, text: str) -> Token:
        assert one.introspector is not None  # checked with the options
        token = await one.introspector.introspect(text)
        if token is None:
            raise invalid("not active")
        return token
