"""JWT access tokens (RFC 9068 §4, RFC 8725): signature and claims, nothing about revocation."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

import jwt

from ._errors import VerifyError, invalid
from ._http import is_number, parse_object
from ._issuer import IssuerKeys, Key

_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\Z")
_JWS = jwt.PyJWS()


def decode(text: str) -> bytes:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parse(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWS in compact form; nothing of it is believed yet."""
    parts = _PARTS.match(text)
    if parts is None:
        raise invalid("malformed")
    try:
        return parse_object(decode(parts[1])), parse_object(decode(parts[2]))
    except ValueError as error:
        raise invalid("malformed") from error


def is_type(typ: object, wanted: str) -> bool:
    """RFC 7515 §4.1.9: `application/` may be left out, letters may be large."""
    return isinstance(typ, str) and typ.lower() in (wanted, f"application/{wanted}")


async def signed_by(issuer: IssuerKeys, text: str, header: Mapping[str, Any], typ: str) -> Key:
    """Checks that one of the issuer's keys signed `text` as a `typ`; gives that key."""
    if not is_type(header.get("typ"), typ):
        raise invalid("typ")
    if "crit" in header or "b64" in header:
        raise invalid("crit")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or not isinstance(kid, str):
        raise invalid("header")
    key = await issuer.key(kid)
    if key is None:
        raise invalid("unknown key")
    # RFC 8725 §3.1: the key says which algorithm it is for, the token has no say.
    own = key.by_algorithm.get(alg)
    if own is None:
        raise invalid("algorithm")
    try:
        _JWS.decode_complete(text, own, algorithms=[alg])
    except Exception as error:
        raise invalid("signature") from error
    return key


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != ""


def audiences(aud: object) -> tuple[str, ...]:
    """`aud` as a tuple; empty when it is absent or no audience at all."""
    values = aud if isinstance(aud, list) else [aud]
    found = tuple(value for value in values if _is_text(value))
    return found if len(found) == len(values) else ()


def check_claims(claims: Mapping[str, Any], issuer: IssuerKeys) -> None:
    """Checks the claims that RFC 9068 §2.2 demands, and what they say of this API."""
    if claims.get("iss") != issuer.url:
        raise invalid("issuer")
    for name in ("sub", "client_id", "jti"):
        if not _is_text(claims.get(name)):
            raise invalid(f"no {name}")
    for name in ("exp", "iat"):
        if not is_number(claims.get(name)):
            raise invalid(f"no {name}")
    check_common(claims, issuer)


def check_common(claims: Mapping[str, Any], issuer: IssuerKeys) -> None:
    """What counts for claims and for introspection answers."""
    for name in ("exp", "iat", "nbf"):
        if name in claims and not is_number(claims[name]):
            raise invalid(name)
    if not isinstance(claims.get("scope", ""), str):
        raise invalid("scope")
    if issuer.audience.isdisjoint(audiences(claims.get("aud"))):
        raise invalid("audience")
    # A key-bound token (RFC 7800) is no bearer token, and nothing here proves possession.
    if "cnf" in claims:
        raise invalid("bound to a key")


def time_fault(claims: Mapping[str, Any], now: float, leeway: float) -> VerifyError | None:
    """What is wrong with `exp`, `nbf` and `iat` (RFC 7519 §4.1) at `now`."""
    if "exp" in claims and now >= claims["exp"] + leeway:
        return invalid("expired")
    if "nbf" in claims and claims["nbf"] > now + leeway:
        return invalid("not yet valid")
    if "iat" in claims and claims["iat"] > now + leeway:
        return invalid("issued in the future")
    return None


@dataclass(frozen=True)
class Token:
    """What an application sees of a verified token."""

    #: `jwt`, `opaque` or `api_key`.
    kind: str
    issuer: str
    subject: str
    client_id: str
    audience: tuple[str, ...]
    scopes: frozenset[str]
    #: Unix seconds.
    expires_at: float | None
    claims: Mapping[str, Any]

    @classmethod
    def of(cls, kind: str, issuer: str, claims: Mapping[str, Any]) -> Token:
        return cls(
            kind=kind,
            issuer=issuer,
            subject=claims.get("sub", ""),
            client_id=claims.get("client_id", ""),
            audience=audiences(claims.get("aud")),
            scopes=frozenset(claims.get("scope", "").split()),
            expires_at=claims.get("exp"),
            claims=MappingProxyType(dict(claims)),  # the next request gets the same one
        )

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes

    def require_scope(self, *scopes: str) -> None:
        """Raises a `VerifyError` (403) unless the token has all of these."""
        if not self.scopes.issuperset(scopes):
            raise VerifyError("insufficient_scope", f"needs {' '.join(scopes)}", scopes=scopes)
