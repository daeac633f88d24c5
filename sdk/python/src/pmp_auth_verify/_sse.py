"""Server-sent events (WHATWG HTML §9.2.6)."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass
class Event:
    """An event, or a comment (`name` is ""), or a retry field (`name` is "retry")."""

    name: str = "message"
    data: str = ""
    id: str | None = None


@dataclass
class _Pending:
    name: str = ""
    data: list[str] = field(default_factory=list)
    id: str | None = None


async def events(chunks: AsyncIterable[bytes], most: int = 256 << 20) -> AsyncIterator[Event]:
    """Reads events however the bytes are cut; a line of more than `most` letters is an error."""
    pending = _Pending()
    async for line in _lines(chunks, most):
        if line == "":
            if pending.data:
                yield Event(pending.name or "message", "\n".join(pending.data), pending.id)
            pending = _Pending()
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            yield Event("", value)
        elif name == "event":
            pending.name = value
        elif name == "data":
            pending.data.append(value)
        elif name == "id" and "\0" not in value:
            pending.id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            yield Event("retry", value)


async def _lines(chunks: AsyncIterable[bytes], most: int) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    parts: list[str] = []
    size = 0
    after_return = False
    async for chunk in chunks:
        text = decoder.decode(chunk)
        if text == "":
            continue
        ends_with_return = text.endswith("\r")
        if after_return and text.startswith("\n"):  # a line may end in two chunks
            text = text[1:]
        after_return = ends_with_return
        *whole, last = _LINE_END.split(text)
        for piece in whole:
            parts.append(piece)
            yield "".join(parts)
            parts, size = [], 0
        size += len(last)
        if size > most:
            raise ValueError(f"a line of more than {most} letters")
        parts.append(last)
