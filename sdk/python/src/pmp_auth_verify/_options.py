"""The options, checked whole before anything starts."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ._credentials import ClientCredentials
from ._http import Context, is_safe, origin

MODES = ("local", "feed", "introspect", "status_list")
_ALGORITHM = re.compile(r"(ES(256|384|512)|[RP]S(256|384|512)|EdDSA)\Z")

FeedToken = Callable[[str], "str | Awaitable[str]"]
T = TypeVar("T")


@dataclass(frozen=True)
class Grace:
    """Goes on for so many seconds after the feed is lost."""

    seconds: float


@dataclass(frozen=True)
class Issuer:
    """An issuer, with what differs from the verifier's own options."""

    issuer: str
    audience: str | Sequence[str] = ()
    credentials: ClientCredentials | None = None
    feed_token: FeedToken | None = None
    algorithms: Sequence[str] | None = None
    #: Whether opaque tokens and API keys may be shown to it. Default: if only it has credentials.
    opaque: bool | None = None


class Clock:
    """The time in seconds: Unix time, and a clock that never jumps."""

    def wall(self) -> float:
        return time.time()

    def mono(self) -> float:
        return time.monotonic()


def _between(value: float, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} is a number from {least} to {most}")
    return value


def _texts(value: str | Sequence[str], name: str) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else tuple(value)
    if not values or not all(isinstance(one, str) and one for one in values):
        raise ValueError(f"{name} is required")
    return values


def _one_of(value: T, name: str, values: Iterable[T]) -> T:
    if value not in values:
        raise ValueError(f"{name} is one of {', '.join(map(str, values))}")
    return value


def checked_issuers(
    issuers: str | Issuer | Sequence[str | Issuer], common: Issuer, mode: str, loss: object, insecure: bool
) -> list[Issuer]:
    """Each issuer with everything filled in, or a `ValueError`."""
    several = [issuers] if isinstance(issuers, (str, Issuer)) else list(issuers)
    found = [
        _checked(one if isinstance(one, Issuer) else Issuer(one), common, mode, insecure) for one in several
    ]
    if not found:
        raise ValueError("issuers is required")
    if len({one.issuer for one in found}) < len(found):
        raise ValueError("an issuer is there twice")
    if loss == "introspect" and any(one.credentials is None for one in found):
        raise ValueError("introspection needs credentials")
    # An opaque token names no issuer. With several, it goes only to those that are meant to see it.
    only = sum(one.credentials is not None for one in found) == 1
    return [
        replace(one, opaque=one.credentials is not None and (only if one.opaque is None else one.opaque))
        for one in found
    ]


def _checked(one: Issuer, common: Issuer, mode: str, insecure: bool) -> Issuer:
    if not is_safe(one.issuer, insecure) or "?" in one.issuer or "#" in one.issuer:
        raise ValueError(f"issuer {one.issuer} is not an https address")
    credentials = one.credentials or common.credentials
    feed_token = one.feed_token or common.feed_token
    algorithms = one.algorithms or common.algorithms
    if mode == "introspect" and credentials is None:
        raise ValueError("introspection needs credentials")
    if mode == "feed" and credentials is None and feed_token is None:
        raise ValueError("the feed needs credentials or feed_token")
    if algorithms is not None and not all(_ALGORITHM.match(alg) for alg in algorithms):
        raise ValueError("algorithms are asymmetric ones")
    audience = _texts(one.audience or common.audience, "audience")
    return Issuer(one.issuer, audience, credentials, feed_token, algorithms, one.opaque)


def context_of(
    *,
    mode: str,
    on_feed_loss: str | Grace,
    leeway: float,
    jwks_cooldown: float,
    introspection_max_age: float,
    cache_size: int,
    transport: str,
    status_list_origins: Sequence[str],
    allow_insecure: bool,
    on_event: Callable[[str, str, BaseException | None], Any] | None,
    clock: Clock | None,
) -> Context:
    clock = clock or Clock()
    grace = on_feed_loss.seconds if isinstance(on_feed_loss, Grace) else 0
    loss = "grace" if isinstance(on_feed_loss, Grace) else on_feed_loss

    def report(issuer: str, event: str, error: BaseException | None = None) -> None:
        if on_event is None:
            return
        with suppress(Exception):  # a listener's fault is not a request's
            on_event(issuer, event, error)

    return Context(
        mode=_one_of(mode, "mode", MODES),
        loss=_one_of(loss, "on_feed_loss", ("fail_closed", "introspect", "grace")),
        grace=_between(grace, "Grace", 0, 86_400),
        leeway=_between(leeway, "leeway", 0, 60),
        jwks_cooldown=_between(jwks_cooldown, "jwks_cooldown", 1, 3600),
        introspection_max_age=_between(introspection_max_age, "introspection_max_age", 0, 3600),
        cache_size=int(_between(cache_size, "cache_size", 1, 10_000_000)),
        transport=_one_of(transport, "transport", ("auto", "sse", "poll")),
        status_list_origins=frozenset(map(origin, status_list_origins)),
        allow_insecure=allow_insecure,
        wall=clock.wall,
        mono=clock.mono,
        report=report,
    )
