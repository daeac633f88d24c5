"""What is revoked, as the feed told it, and which tokens that kills."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ._http import is_number

KINDS = ("jti", "head", "grant", "session", "subject", "client", "tenant", "api_key", "kid")
Keys = tuple[tuple[str, str], ...]
# nbf and aud of an entry
_Rule = tuple[float | None, frozenset[str] | None]
_ALWAYS: _Rule = (None, None)


def digest(key: str) -> str:
    """The first 16 bytes of SHA-256, base64url: how the feed names a key."""
    half = hashlib.sha256(key.encode("utf-8", "replace")).digest()[:16]
    return base64.urlsafe_b64encode(half).rstrip(b"=").decode()


def keys_of(claims: Mapping[str, Any], kid: str | None) -> Keys:
    """The keys of a token, digested once: pairs of kind and digest."""
    gid, generation = claims.get("gid"), claims.get("gen")
    head = f"{gid}.{generation}" if gid is not None and generation is not None else None
    keys = {
        "jti": claims.get("jti"),
        "head": head,
        "grant": gid,
        "session": claims.get("sid"),
        "subject": claims.get("sub"),
        "client": claims.get("client_id"),
        "api_key": gid,
        "kid": kid,
    }
    digested = tuple((kind, digest(str(key))) for kind, key in keys.items() if key is not None)
    return (*digested, ("tenant", ""))


def _checked(entry: object) -> tuple[str, str, _Rule, float]:
    if not isinstance(entry, dict):
        raise ValueError("a malformed entry in the feed")
    kind, h, exp = entry.get("k"), entry.get("h", ""), entry.get("exp")
    if not isinstance(kind, str) or not isinstance(h, str) or not is_number(exp):
        raise ValueError("a malformed entry in the feed")
    if (h == "") != (kind == "tenant") and kind in KINDS:
        raise ValueError("a malformed entry in the feed")
    return kind, h, _rule(entry.get("nbf"), entry.get("aud")), exp


def _rule(nbf: object, aud: object) -> _Rule:
    if nbf is None and aud is None:
        return _ALWAYS
    if nbf is not None and not is_number(nbf):
        raise ValueError("a malformed entry in the feed")
    if aud is None:
        return nbf, None
    if not isinstance(aud, list) or not all(isinstance(one, str) for one in aud):
        raise ValueError("a malformed entry in the feed")
    return nbf, frozenset(aud)


class RevokedSet:
    """Entries by kind and digest. `version` grows with every page: an answer for the same one stands."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, dict[_Rule, float]]] = {kind: {} for kind in KINDS}
        self.version = 0
        self.size = 0

    def add(self, entries: Sequence[object]) -> int:
        """Adds a page; the same entry may come twice. Gives the number of entries of unknown kind."""
        good = [_checked(entry) for entry in entries]  # all of it or nothing
        unknown = 0
        for kind, h, rule, exp in good:
            entries_of_kind = self._kinds.get(kind)
            if entries_of_kind is None:
                unknown += 1
                continue
            rules = entries_of_kind.get(h)
            if rules is None:
                entries_of_kind[h] = {rule: exp}
                self.size += 1
                continue
            self.size += rule not in rules
            rules[rule] = max(rules.get(rule, exp), exp)
        if good:
            self.version += 1
        return unknown

    def forget(self, now: float) -> None:
        """Forgets what ended before `now`: no token that it could match is alive."""
        for kind in self._kinds.values():
            for h in [h for h, rules in kind.items() if min(rules.values()) <= now]:
                kept = {rule: exp for rule, exp in kind[h].items() if exp > now}
                self.size -= len(kind[h]) - len(kept)
                if kept:
                    kind[h] = kept
                else:
                    del kind[h]

    def matches(self, keys: Keys, iat: float, audience: Sequence[str]) -> bool:
        """Whether any entry matches a token with these keys, `iat` and audiences."""
        for kind, h in keys:
            rules = self._kinds[kind].get(h)
            if rules is None:
                continue
            for nbf, aud in rules:
                if (nbf is None or iat <= nbf) and (aud is None or not aud.isdisjoint(audience)):
                    return True
        return False
