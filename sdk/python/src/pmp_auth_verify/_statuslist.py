"""Token Status Lists (draft-ietf-oauth-status-list): one signed list of bits for many tokens."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._cache import Cache
from ._errors import invalid, unavailable
from ._http import Context, ask, is_number, is_safe, origin
from ._issuer import IssuerKeys
from ._jwt import decode, parse, signed_by

_MOST_BYTES = 16 << 20
_DEFAULT_TTL = 60
_MOST_TTL = 3600


@dataclass(frozen=True)
class _List:
    data: bytes
    bits: int
    ttl: float
    exp: float | None
    etag: str | None = None
    until: float = 0


def status_at(data: bytes, bits: int, idx: int) -> int | None:
    """The status at `idx` of a list with `bits` per token, the lowest bits of a byte first (§4.1)."""
    per = 8 // bits
    if idx // per >= len(data):
        return None
    return data[idx // per] >> (idx % per * bits) & ((1 << bits) - 1)


def inflate(text: str) -> bytes:
    """`lst`: base64url of a zlib stream (§4.2), of a bounded size."""
    stream = zlib.decompressobj()
    data = stream.decompress(decode(text), _MOST_BYTES)
    if not stream.eof:
        raise ValueError("a status list that is cut off, or too large")
    return data


def reference(claims: Mapping[str, Any]) -> tuple[str, int] | None:
    """`status.status_list` of a token's claims (§6.2), or None when it has none."""
    status = claims.get("status")
    if not isinstance(status, dict) or "status_list" not in status:
        return None
    found = status["status_list"]
    if not isinstance(found, dict):
        raise invalid("status")
    uri, idx = found.get("uri"), found.get("idx")
    if not isinstance(uri, str) or not isinstance(idx, int) or isinstance(idx, bool) or idx < 0:
        raise invalid("status")
    return uri, idx


class StatusLists:
    """The lists of one issuer, each kept for its `ttl`."""

    def __init__(self, issuer: IssuerKeys, context: Context):
        self._issuer = issuer
        self._context = context
        self._lists: Cache[_List] = Cache(1000)

    async def is_valid(self, uri: str, idx: int) -> bool:
        """Whether the status is VALID. Raises `unavailable` when no list of its ttl can be had."""
        found = await self._list(uri)
        status = status_at(found.data, found.bits, idx)
        if status is None:
            raise invalid("status index")
        return status == 0

    async def _list(self, uri: str) -> _List:
        held = self._lists.get(uri)
        now = self._context.mono()

        async def fetch() -> _List:
            return await self._fetch(uri, held)

        if held is not None and now < held.until:
            if now > held.until - held.ttl / 5:  # shortly before its end, beside the request
                self._context.tasks.begin((self, uri), fetch)
            return held
        if not self._may_ask(uri):
            raise invalid("the status list is elsewhere")
        try:
            return await self._context.tasks.once((self, uri), fetch)
        except Exception as error:
            if held is not None and self._context.loss == "grace" and now < held.until + self._context.grace:
                return held
            raise unavailable("the status list cannot be had") from error

    def _may_ask(self, uri: str) -> bool:
        if not is_safe(uri, self._context.allow_insecure):
            return False
        return origin(uri) in {origin(self._issuer.url), *self._context.status_list_origins}

    async def _fetch(self, uri: str, held: _List | None) -> _List:
        asked = self._context.mono()
        headers = {"accept": "application/statuslist+jwt"}
        good: tuple[int, ...] = (200,)
        if held is not None and held.etag:
            headers["if-none-match"] = held.etag
            good = (200, 304)
        try:
            answer = await ask(self._context, "GET", uri, headers=headers, most=_MOST_BYTES, good=good)
            read = held if held is not None and answer.status == 304 else await self._read(uri, answer.body)
            left = read.ttl if read.exp is None else min(read.ttl, read.exp - self._context.wall())
            if left <= 0:
                raise ValueError("the status list has expired")
        except Exception as error:
            self._context.report(self._issuer.url, "status_list_failed", error)
            raise
        found = replace(read, etag=answer.headers.get("etag", read.etag), until=asked + left)
        self._lists.set(uri, found)
        return found

    async def _read(self, uri: str, body: bytes) -> _List:
        """Checks the list and unpacks it (§5.1, §8.3)."""
        text = body.decode("ascii").strip()
        header, claims = parse(text)
        await signed_by(self._issuer, text, header, "statuslist+jwt")
        if claims.get("sub") != uri or claims.get("iss", self._issuer.url) != self._issuer.url:
            raise ValueError("another status list")
        iat, exp, ttl = claims.get("iat"), claims.get("exp"), claims.get("ttl", _DEFAULT_TTL)
        if not is_number(iat) or not is_number(ttl) or not (exp is None or is_number(exp)):
            raise ValueError("a malformed status list")
        found = claims.get("status_list")
        if ttl <= 0 or iat > self._context.wall() + 60 or not isinstance(found, dict):
            raise ValueError("a malformed status list")
        bits, lst = found.get("bits"), found.get("lst")
        if isinstance(bits, bool) or bits not in (1, 2, 4, 8) or not isinstance(lst, str):
            raise ValueError("a malformed status list")
        return _List(inflate(lst), bits, min(ttl, _MOST_TTL), exp)
