"""What a caller is told when a request is refused (RFC 6750 §3), and nothing more than that."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

_STATUS = {
    "missing_token": 401,
    "invalid_request": 400,
    "invalid_token": 401,
    "insufficient_scope": 403,
    "unavailable": 503,
}
_DESCRIPTION = {
    "invalid_request": "The Authorization header is not one bearer token.",
    "invalid_token": "The access token is not valid.",
    "insufficient_scope": "The access token lacks a scope that this needs.",
}


class VerifyError(Exception):
    """A refused request.

    `code` is what the caller may know: `missing_token`, `invalid_request`, `invalid_token`,
    `insufficient_scope` or `unavailable`. `reason` is for your log: it is never part of an answer.
    """

    def __init__(self, code: str, reason: str, *, scopes: Sequence[str] = (), retry_after: int = 1):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.status = _STATUS[code]
        self.scopes = tuple(scopes)
        self.retry_after = retry_after


def invalid(reason: str) -> VerifyError:
    return VerifyError("invalid_token", reason)


def unavailable(reason: str) -> VerifyError:
    return VerifyError("unavailable", reason)


@dataclass(frozen=True)
class Refusal:
    """The whole answer to a refused request."""

    status: int
    headers: dict[str, str]
    error: str

    @property
    def body(self) -> bytes:
        return json.dumps({"error": self.error}, separators=(",", ":")).encode()


def _quoted(text: str) -> str:
    """A quoted-string (RFC 9110 §5.6.4) of text from the configuration."""
    return '"' + re.sub(r'(["\\])', r"\\\1", re.sub(r"[^\x20-\x7e]", "", text)) + '"'


def _challenge(error: VerifyError, realm: str | None, resource_metadata: str | None) -> str:
    parts = [f"realm={_quoted(realm)}"] if realm else []
    # RFC 6750 §3.1: a request without a token is told no error.
    if error.code in _DESCRIPTION:
        parts += [f'error="{error.code}"', f'error_description="{_DESCRIPTION[error.code]}"']
    if error.scopes:
        parts.append(f"scope={_quoted(' '.join(error.scopes))}")
    if resource_metadata:  # RFC 9728 §5.1
        parts.append(f"resource_metadata={_quoted(resource_metadata)}")
    return f"Bearer {', '.join(parts)}" if parts else "Bearer"


def refusal(error: BaseException, realm: str | None, resource_metadata: str | None) -> Refusal:
    headers = {"cache-control": "no-store"}
    if not isinstance(error, VerifyError):
        return Refusal(500, headers, "server_error")
    if error.code == "unavailable":
        headers["retry-after"] = str(error.retry_after)
        return Refusal(503, headers, "temporarily_unavailable")
    headers["www-authenticate"] = _challenge(error, realm, resource_metadata)
    name = "unauthorized" if error.code == "missing_token" else error.code
    return Refusal(error.status, headers, name)
