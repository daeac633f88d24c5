"""Bounded memory, and work that runs once for all who wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from ._errors import unavailable

T = TypeVar("T")


class Cache(Generic[T]):
    """A map of bounded size that forgets what was used longest ago."""

    def __init__(self, most: int):
        self._most = most
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def set(self, key: Hashable, value: T) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def delete(self, key: Hashable) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()


class Tasks:
    """Tasks of our own: a request that goes away does not end them, `close` does."""

    def __init__(self) -> None:
        self._all: set[asyncio.Task[Any]] = set()
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._all.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._all.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    def begin(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Runs `work` once at a time per key, beside whoever asks for it."""
        task = self._flights.get(key)
        if task is None:
            task = self.start(work())
            self._flights[key] = task
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        return task

    async def once(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Who comes while `work` runs for `key` waits for the same outcome."""
        task = self.begin(key, work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if task.cancelled() and own is not None and own.cancelling() == 0:
                raise unavailable("closed") from None
            raise

    async def close(self) -> None:
        tasks = [task for task in self._all if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
