"""Token introspection (RFC 7662): the issuer says what a token is, for as long as it says."""

from __future__ import annotations

import hashlib
import re

import httpx

from ._cache import Cache
from ._credentials import ClientCredentials
from ._errors import invalid, unavailable
from ._http import Context, ask, parse_object
from ._issuer import IssuerKeys
from ._jwt import Token, check_common, time_fault

_MAX_AGE = re.compile(r'\bmax-age\s*=\s*"?(\d{1,9})', re.ASCII)
_NO = re.compile(r"\bno-(store|cache)\b")


def max_age(headers: httpx.Headers) -> int:
    """Seconds for which an answer may be kept: what its Cache-Control says, else none (RFC 9111 §5.2)."""
    control = headers.get("cache-control", "").lower()
    stated = _MAX_AGE.search(control)
    if stated is None or _NO.search(control):
        return 0
    age = headers.get("age", "")
    return max(int(stated[1]) - (int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0), 0)


class Introspector:
    """Asks one issuer."""

    def __init__(self, issuer: IssuerKeys, credentials: ClientCredentials, context: Context):
        self._issuer = issuer
        self._credentials = credentials
        self._context = context
        self._answers: Cache[tuple[Token, float]] = Cache(context.cache_size)

    async def introspect(self, text: str) -> Token | None:
        """The token, if it is active and for this API; None if it is not active."""
        key = hashlib.sha256(text.encode()).digest()  # no token is kept
        held = self._answers.get(key)
        if held is not None and self._context.mono() < held[1]:
            fault = time_fault(held[0].claims, self._context.wall(), 0)
            if fault is not None:
                raise fault
            return held[0]
        return await self._context.tasks.once((self, key), lambda: self._ask(text, key))

    async def _ask(self, text: str, key: bytes) -> Token | None:
        asked = self._context.mono()
        try:
            endpoint = (await self._issuer.metadata())["introspection_endpoint"]
            headers, form = self._credentials.authentication()
            headers["accept"] = "application/json"
            form |= {"token": text, "token_type_hint": "access_token"}
            answer = await ask(self._context, "POST", endpoint, headers=headers, data=form, timeout=5)
            claims = parse_object(answer.body)
        except Exception as error:
            self._context.report(self._issuer.url, "introspection_failed", error)
            raise unavailable("introspection failed") from error
        self._answers.delete(key)
        if claims.get("active") is not True:
            return None
        if claims.get("iss", self._issuer.url) != self._issuer.url:
            raise invalid("issuer")
        # The audience also keeps refresh tokens out: they are for no API.
        check_common(claims, self._issuer)
        fault = time_fault(claims, self._context.wall(), self._context.leeway)
        if fault is not None:
            raise fault
        kind = "api_key" if text.startswith("pak_") else "jwt" if "." in text else "opaque"
        token = Token.of(kind, self._issuer.url, claims)
        lives = min(max_age(answer.headers), self._context.introspection_max_age)
        if lives > 0:
            self._answers.set(key, (token, asked + lives))
        return token
