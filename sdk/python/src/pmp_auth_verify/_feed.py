"""The reader of one issuer's revocation feed: server-sent events, else long polls.

Whatever goes wrong it goes on, from where it was; what it once heard it keeps until that entry's end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx

from ._credentials import TokenSource
from ._http import Context, HttpError, ask, parse_object
from ._issuer import IssuerKeys
from ._revoked import Keys, RevokedSet
from ._sse import events

_LOST = 45.0  # a feed that said nothing for so long is lost
_SILENT = 35.0  # two heartbeats and a bit: try again before that
_HELD_BACK = 20.0  # a stream without its first word by then is held back by something between
_POLL = 25
_STREAM_AGAIN = 300.0
_FORGET = 30.0
_MOST_BYTES = 256 << 20
_OTHER = {400, 401, 403, 410, 429, 503}  # answers that say nothing about streams


class _NoStream(Exception):
    """Streams do not pass here."""


class Feed:
    """What one issuer's feed said, kept current by a task."""

    def __init__(self, issuer: IssuerKeys, context: Context):
        self._issuer = issuer
        self._context = context
        self._source = TokenSource(issuer, context)
        self._revoked = RevokedSet()
        self._cursor: str | None = None
        self._whole = False  # no snapshot is under way
        self._heard = (0.0, 0.0)
        self._retry = 1.0
        self._poll_until = float("-inf")
        self._failures = 0
        self._was_lost = False
        self.loaded = asyncio.Event()

    def start(self) -> None:
        self._context.tasks.start(self._run())
        self._context.tasks.start(self._forget())

    @property
    def size(self) -> int:
        return self._revoked.size

    @property
    def version(self) -> int:
        """Grows with what is revoked."""
        return self._revoked.version

    def kills(self, keys: Keys, iat: float, audience: tuple[str, ...]) -> bool:
        return self._revoked.matches(keys, iat, audience)

    def lost_for(self) -> float | None:
        """None while the feed lives; else for how many seconds it is lost."""
        mono, wall = self._heard
        # The wall clock counts while a machine sleeps; the other does not jump.
        silent = max(self._context.mono() - mono, self._context.wall() - wall)
        lost = silent > _LOST
        if lost != self._was_lost:
            self._was_lost = lost
            self._context.report(self._issuer.url, "feed_lost" if lost else "feed_live")
        return silent - _LOST if lost else None

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_FORGET)
            self._revoked.forget(self._context.wall())
            if self.loaded.is_set():
                self.lost_for()

    def _hear(self) -> None:
        # Between a stale cursor and the end of the new snapshot a word proves nothing.
        if not self._whole:
            return
        self._heard = (self._context.mono(), self._context.wall())
        self._failures = 0
        if not self.loaded.is_set():
            self.loaded.set()
            self._context.report(self._issuer.url, "feed_loaded")
        self.lost_for()

    def _restart(self) -> None:
        """The next request takes a snapshot. What is held stays: revocations only ever grow."""
        self._cursor = None
        self._whole = False

    def _take(self, page: dict[str, Any], snapshot: bool, cursor: str | None) -> None:
        if page.get("iss") != self._issuer.url:
            raise ValueError("the feed is another issuer's")
        if not isinstance(page.get("entries"), list):
            raise ValueError("a malformed page in the feed")
        unknown = self._revoked.add(page["entries"])
        if unknown:
            self._context.report(self._issuer.url, "unknown_entries")
        if cursor is not None:
            self._cursor = cursor
        if snapshot and page.get("more") is not True:
            self._whole = True
        self._hear()

    async def _run(self) -> None:
        while True:
            try:
                polls = self._context.transport == "poll" or self._context.mono() < self._poll_until
                pause = await (self._poll() if polls else self._stream())
            except Exception as error:
                pause = self._failed(error)
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    def _failed(self, error: Exception) -> float:
        """What to do about an error: gives the seconds until the next try."""
        self._failures += 1
        self._context.report(self._issuer.url, "feed_failed", error)
        backoff: float = min(0.25 * 2 ** min(self._failures, 10), 10)
        if not isinstance(error, HttpError):
            return backoff
        if error.status in (400, 410):
            resumed = self._cursor is not None
            self._restart()
            if resumed:
                return 0  # a snapshot has no cursor to be stale
        if error.status == 401:
            self._source.drop()
            if self._failures < 3:
                return 0.05
        if error.retry_after is not None:
            return max(min(error.retry_after, 5), 0.25)
        return backoff

    async def _address(self) -> str:
        endpoint = (await self._issuer.metadata()).get("revocation_feed_endpoint")
        return endpoint or f"{self._issuer.url.rstrip('/')}/revocations"

    async def _poll(self) -> float:
        url = httpx.URL(await self._address())
        token, _ = await self._source.get()
        snapshot = not self._whole
        if self._cursor is not None:
            url = url.copy_set_param("after", self._cursor)
        if not snapshot:
            url = url.copy_set_param("wait", str(_POLL))
        asked = self._context.mono()
        answer = await ask(
            self._context,
            "GET",
            str(url),
            headers={"accept": "application/json", "authorization": f"Bearer {token}"},
            timeout=60 if snapshot else _POLL + 10,
            most=_MOST_BYTES,
            good=(200, 304),
        )
        if answer.status == 304:
            self._hear()
            return 0
        page = parse_object(answer.body)
        if not isinstance(page.get("cursor"), str):
            raise ValueError("a page without a cursor")
        self._take(page, snapshot, page["cursor"])
        # A server that does not wait is not asked without end.
        quick = not page["entries"] and page.get("more") is not True and self._context.mono() - asked < 0.2
        return 1 if quick and not snapshot else 0

    async def _stream(self) -> float:
        url = await self._address()
        token, renew_in = await self._source.get()
        headers = {"accept": "text/event-stream", "authorization": f"Bearer {token}"}
        if not self._whole:
            self._cursor = None  # a snapshot that was cut off begins anew
        if self._cursor is not None:
            headers["last-event-id"] = self._cursor
        watch = _Watch(renew_in)
        try:
            async with (
                watch.limit,
                self._context.http.stream(
                    "GET", url, headers=headers, timeout=httpx.Timeout(10, read=None)
                ) as response,
            ):
                if response.status_code != 200:
                    raise HttpError(response)
                if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                    raise _NoStream("the feed does not stream here")
                watch.opened = True
                await self._follow(response.aiter_bytes(), watch)
            return self._retry  # ended by the server
        except TimeoutError:
            if watch.renewing():
                return 0
            if watch.opened and not watch.spoken:
                self._poll_for_now()
                raise _NoStream("something holds the stream back") from None
            raise ConnectionError("the feed is silent") from None
        except (HttpError, _NoStream) as error:
            if not (isinstance(error, HttpError) and error.status in _OTHER):
                self._poll_for_now()
            raise

    def _poll_for_now(self) -> None:
        if self._context.transport != "sse":
            self._poll_until = self._context.mono() + _STREAM_AGAIN

    async def _follow(self, chunks: AsyncIterator[bytes], watch: _Watch) -> None:
        async for event in events(chunks, _MOST_BYTES):
            watch.spoke()
            if event.name == "retry":
                self._retry = min(max(int(event.data) / 1000, 0.1), 5)
            elif event.name == "":
                self._hear()
            elif event.name == "reset":
                self._restart()
                self._retry = 0.1
                return
            elif event.name in ("snapshot", "revoked"):
                snapshot = event.name == "snapshot"
                page = parse_object(event.data)
                last = page.get("cursor") if snapshot and page.get("more") is not True else None
                self._take(page, snapshot, event.id if event.id is not None else last)


class _Watch:
    """Ends a stream that is silent, and one whose token is soon too old."""

    def __init__(self, renew_in: float):
        self._now = asyncio.get_running_loop().time
        self._renew_at = self._now() + max(renew_in, 0)
        self.limit = asyncio.timeout_at(min(self._now() + _HELD_BACK, self._renew_at))
        self.opened = False
        self.spoken = False

    def spoke(self) -> None:
        self.spoken = True
        if not self.limit.expired():
            self.limit.reschedule(min(self._now() + _SILENT, self._renew_at))

    def renewing(self) -> bool:
        return self._now() >= self._renew_at
