"""What the wrapper and its llama-server say: log lines on stdout, and the last lines of the child for `GET /logs`."""

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Literal, TextIO

RING_LINES = 2000
_FLUSH_S = 0.2
_encode = json.JSONEncoder(ensure_ascii=False).encode


class LogSink:
    """Writes one line an event to a stream, as JSON or as text, each with the server's name."""

    def __init__(self, server: str, log_format: Literal["json", "text"], stream: TextIO | None = None) -> None:
        self._server = server
        self._json = log_format == "json"
        self._stream = stream or sys.stdout
        self._flushing: asyncio.TimerHandle | None = None

    def write(self, event: str, **fields: object) -> None:
        """Write one line: what happened and its fields; fields that are None are left out."""
        self._put(event, fields)
        self._flush()

    def write_soon(self, event: str, **fields: object) -> None:
        """As `write`, but lines that come within 0.2 s go out together; needs a running event loop."""
        self._put(event, fields)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def _put(self, event: str, fields: dict[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        kept = {name: value for name, value in fields.items() if value is not None}
        if self._json:
            line = _encode({"time": now, "server": self._server, "event": event, **kept})
        else:
            words = " ".join(f"{name}={value}" for name, value in kept.items() if name != "line")
            line = f"{now} {self._server} {event} {words}{kept.get('line', '')}".rstrip()
        with contextlib.suppress(BrokenPipeError, ValueError):  # whoever read our output is gone; serving goes on
            self._stream.write(line + "\n")

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._stream.flush()


class LogHandler(logging.Handler):
    """Sends the standard library's log records (uvicorn, asyncio) to a `LogSink`."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` as one line, its traceback included."""
        self._sink.write("log", level=record.levelname.lower(), logger=record.name, message=self.format(record))


class OutputRing:
    """The last lines of llama-server's output, for reading and following."""

    def __init__(self, echo: Callable[[str], None], capacity: int = RING_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=capacity)
        self._echo = echo
        self._count = 0
        self._grown = asyncio.Event()

    def add(self, line: str) -> None:
        """Keep `line` and echo it."""
        self._lines.append(line)
        self._count += 1
        self._echo(line)
        self._grown.set()
        self._grown = asyncio.Event()

    def last(self, count: int = RING_LINES) -> list[str]:
        """Return up to `count` of the newest lines, oldest first."""
        return list(self._lines)[-count:] if count else []

    async def follow(self, count: int) -> AsyncIterator[str]:
        """Give the last `count` lines, then each new one as it comes; a slow reader misses what left the ring."""
        seen = max(0, self._count - len(self.last(count)))
        while True:
            missing = min(self._count - seen, len(self._lines))
            seen = self._count
            for line in self.last(missing):
                yield line
            if seen == self._count:
                await self._grown.wait()
