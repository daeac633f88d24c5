"""Requests to issuers: no redirects, an end in time, a bound on what is read, https but on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeGuard
from urllib.parse import urlsplit

import httpx

from ._cache import Tasks

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class HttpError(Exception):
    """An answer that is not the one asked for; its body is not kept, it may hold anything."""

    def __init__(self, response: httpx.Response):
        super().__init__(f"{response.url.copy_with(query=None)} answered {response.status_code}")
        self.status = response.status_code
        text = response.headers.get("retry-after", "")
        self.retry_after = min(int(text), 60) if text.isascii() and text.isdigit() and len(text) < 7 else None


@dataclass
class Context:
    """What all parts of a verifier share."""

    mode: str
    loss: str
    grace: float
    leeway: float
    jwks_cooldown: float
    introspection_max_age: float
    cache_size: int
    transport: str
    status_list_origins: frozenset[str]
    allow_insecure: bool
    wall: Callable[[], float]
    mono: Callable[[], float]
    report: Callable[..., None]
    client: httpx.AsyncClient | None = None
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def http(self) -> httpx.AsyncClient:
        """Made at first use: it belongs to the running loop."""
        if self.client is None:
            self.client = httpx.AsyncClient(follow_redirects=False, timeout=10)
        return self.client


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    body: bytes


def is_safe(url: object, allow_insecure: bool = False) -> bool:
    """Whether credentials and keys may travel to this address."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (allow_insecure or host in _LOOPBACK))


def origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


async def ask(
    context: Context,
    method: str,
    url: str,
    *,
    good: tuple[int, ...] = (200,),
    timeout: float = 10,
    most: int = 1 << 20,
    **request: Any,
) -> Answer:
    """Asks `url` and reads the whole answer, if its status is in `good`. The time covers the body."""
    async with asyncio.timeout(timeout):
        async with context.http.stream(method, url, timeout=timeout, **request) as response:
            if response.status_code not in good:
                raise HttpError(response)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > most:
                    raise ValueError(f"an answer of more than {most} bytes")
            return Answer(response.status_code, response.headers, bytes(body))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def parse_object(text: bytes | str) -> dict[str, Any]:
    """A JSON object, or a `ValueError`."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def is_number(value: object) -> TypeGuard[float]:
    """A finite JSON number: `True` and infinity are none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf"))
