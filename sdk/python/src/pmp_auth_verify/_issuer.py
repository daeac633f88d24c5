"""One issuer: its metadata (RFC 8414, OpenID Connect Discovery) and its keys (RFC 7517)."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from ._errors import unavailable
from ._http import Answer, Context, ask, is_safe, parse_object

if TYPE_CHECKING:
    from ._options import Issuer

_METADATA_SECONDS = 3600
_KEYS_SECONDS = 600
# Longer than any token of a client lives by default: older keys have nothing left to say.
_STALE_SECONDS = 3600
_ENDPOINTS = ("jwks_uri", "token_endpoint", "introspection_endpoint", "revocation_feed_endpoint")
_CURVES = {"P-256": ["ES256"], "P-384": ["ES384"], "P-521": ["ES512"], "Ed25519": ["EdDSA"]}
_RSA = ["RS256", "PS256", "RS384", "PS384", "RS512", "PS512"]


@dataclass(frozen=True, eq=False)
class Key:
    kid: str
    text: str
    by_algorithm: dict[str, Any]


def _algorithms(jwk: dict[str, Any]) -> list[str]:
    """What a key may sign: its own `alg`, else what its type allows. Never `none`, never a MAC."""
    if jwk.get("kty") == "RSA":
        possible = _RSA
    elif jwk.get("kty") in ("EC", "OKP"):
        possible = _CURVES.get(str(jwk.get("crv")), [])
    else:
        possible = []
    return possible if "alg" not in jwk else [alg for alg in possible if alg == jwk["alg"]]


def _signs(jwk: object) -> bool:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
        return False
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


class IssuerKeys:
    """Metadata and keys of one issuer, fetched when they are needed."""

    def __init__(self, settings: Issuer, context: Context):
        self.settings = settings
        self.url = settings.issuer
        self.audience = frozenset(settings.audience)
        self._context = context
        self._metadata: dict[str, Any] | None = None
        self._metadata_at = 0.0
        self._keys: dict[str, Key] | None = None
        self._keys_at = 0.0
        self._tried_at = float("-inf")
        self._failure: Exception | None = None
        self._fetching = False

    def _age(self, since: float) -> float:
        return self._context.mono() - since

    async def metadata(self) -> dict[str, Any]:
        """The metadata, at most an hour old, or older while no newer can be had."""
        if self._metadata is not None and self._age(self._metadata_at) < _METADATA_SECONDS:
            return self._metadata
        try:
            self._metadata = await self._discover()
            self._metadata_at = self._context.mono()
        except Exception:
            if self._metadata is None:
                raise
        return self._metadata

    async def _discover(self) -> dict[str, Any]:
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        last: Exception = ValueError("no metadata")
        for place in (
            f"{self.url.rstrip('/')}/.well-known/openid-configuration",
            # RFC 8414 §3.1
            f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}",
        ):
            try:
                return self._checked(
                    await ask(self._context, "GET", place, headers={"accept": "application/json"})
                )
            except Exception as error:
                last = error
        raise last

    def _checked(self, answer: Answer) -> dict[str, Any]:
        metadata = parse_object(answer.body)
        # RFC 8414 §3.3: else another issuer's document would do.
        if metadata.get("issuer") != self.url:
            raise ValueError("the metadata is another issuer's")
        for name in _ENDPOINTS:
            if name in metadata and not is_safe(metadata[name], self._context.allow_insecure):
                raise ValueError(f"{name} is not https")
        if "jwks_uri" not in metadata:
            raise ValueError("the metadata has no jwks_uri")
        return metadata

    async def load(self) -> None:
        """Loads the keys if there are none."""
        if self._keys is None:
            await self._refresh()

    async def key(self, kid: str) -> Key | None:
        """The key `kid`, or None when the issuer has none of that name.

        An unknown name makes it look again, but not more often than every `jwks_cooldown`
        seconds: anyone can write a `kid`.
        """
        if self._usable() and self._keys and kid in self._keys:
            return self._keys[kid]
        wait = self._context.jwks_cooldown if self._keys is not None and self._failure is None else 1
        if self._fetching or self._age(self._tried_at) >= wait:
            with suppress(Exception):  # remembered
                await self._refresh()
        if self._failure is not None or not self._usable() or self._keys is None:
            raise unavailable("the keys cannot be had") from self._failure
        return self._keys.get(kid)

    def trusts(self, key: Key) -> bool:
        """Whether a key that verified before is still one of the issuer's. Never waits."""
        return self._usable() and self._keys is not None and self._keys.get(key.kid) is key

    def _usable(self) -> bool:
        if self._keys is None:
            return False
        age = self._age(self._keys_at)
        if age < _KEYS_SECONDS:
            return True
        if not self._fetching and self._age(self._tried_at) >= min(self._context.jwks_cooldown, 30):
            self._begin()
        return age < _STALE_SECONDS

    def _begin(self) -> None:
        self._fetching = True
        self._context.tasks.begin((self, "keys"), self._fetch)

    async def _refresh(self) -> None:
        self._fetching = True
        await self._context.tasks.once((self, "keys"), self._fetch)

    async def _fetch(self) -> None:
        self._tried_at = self._context.mono()
        try:
            uri = (await self.metadata())["jwks_uri"]
            accept = {"accept": "application/jwk-set+json, application/json"}
            keys = parse_object((await ask(self._context, "GET", uri, headers=accept)).body).get("keys")
            if not isinstance(keys, list):
                raise ValueError("not a key set")
            self._keys = self._imported(keys)
            self._keys_at = self._context.mono()
            self._failure = None
        except Exception as error:
            self._failure = error
            self._context.report(self.url, "keys_failed", error)
            raise
        finally:
            self._fetching = False

    def _imported(self, jwks: list[Any]) -> dict[str, Key]:
        """Unchanged keys stay the same objects: tokens that they verified stay verified."""
        keys: dict[str, Key] = {}
        wanted = self.settings.algorithms
        for jwk in filter(_signs, jwks):
            # Only what is public.
            public = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
            text = json.dumps([public, jwk.get("alg")], sort_keys=True)
            held = (self._keys or {}).get(jwk["kid"])
            if held is not None and held.text == text:
                keys[held.kid] = held
                continue
            by_algorithm = {}
            for alg in _algorithms(jwk):
                if wanted is not None and alg not in wanted:
                    continue
                try:
                    by_algorithm[alg] = jwt.PyJWK(public, algorithm=alg).key
                except Exception:  # a key that cannot be used verifies nothing
                    continue
            if by_algorithm:
                keys[jwk["kid"]] = Key(jwk["kid"], text, by_algorithm)
        return keys
