"""The answer of a server as its bytes come: the head, then the body by length, by chunks, or to the connection's end.

HTTP/1.1 as RFC 9112 has it, without input or output. LiteLLM's image has no other parser of HTTP that gives a body's
bytes where they are wanted: aiohttp's client takes each piece through a parser, a queue, a new timer and two iterators,
which at full speed was most of what a token cost.
"""

import re

from multidict import CIMultiDict

MOST_OF_A_HEAD = 64 << 10
"""Bytes of a head, or of one line of a chunked body, after which it is no HTTP."""

_LINE_END = b"\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: |\r\n)")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")
_WITHOUT_BODY = (204, 304)


class NotHttpError(OSError):
    """What came is no answer in HTTP/1.1."""


class AnswerParser:
    """Takes the bytes of one answer.

    Attributes:
        status: 0 as long as the head is not whole.
        headers: of the answer.
        ended: whether it is whole.
        keeps_alive: once it is, whether its connection can take another request.
    """

    __slots__ = ("_held", "_left", "_take", "ended", "headers", "keeps_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.ended = False
        self.keeps_alive = False
        self._held = b""
        self._left = 0
        self._take = self._head

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what of it belongs to the body.

        Raises:
            NotHttpError: it cannot be understood.
        """
        if self.ended:
            self.keeps_alive = self.keeps_alive and not data  # it says more than it was asked for
            return b""
        return self._take(data)

    def feed_end(self) -> None:
        """Note that the connection has ended, which may be the answer's end; `ended` says."""
        self.keeps_alive = False
        self.ended = self.ended or self._take == self._all

    def _head(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        version = status = 0
        while status < 200:  # provisional answers come before the real one
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MOST_OF_A_HEAD or not b"HTTP/1.".startswith(data[:7]):
                    raise NotHttpError(f"the server's answer is no HTTP/1.1: {data[:100]!r}")
                self._held = data
                return b""
            self.headers.clear()
            version, status = self._lines(data[: end + 2])
            if status == 101:
                raise NotHttpError("the server wants to speak another protocol than HTTP")
            data = data[end + 4 :]
        self.status = status
        self._choose_framing(version)
        return self.feed(data) if data else b""

    def _lines(self, head: bytes) -> tuple[int, int]:
        """Read a status line and headers; return the minor version and the status."""
        first, *lines, _ = head.split(_LINE_END)
        if (match := _STATUS.match(first + _LINE_END)) is None:
            raise NotHttpError(f"the server's answer is no HTTP/1.1: {first[:100]!r}")
        for line in lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise NotHttpError(f"the server's answer has no header in {line[:100]!r}")
            self.headers.add(name, value.strip(" \t"))
        return int(match[1]), int(match[2])

    def _choose_framing(self, version: int) -> None:
        """Decide how the body's end is known (RFC 9112, 6.3)."""
        coding = self.headers.get("Transfer-Encoding")
        said = ",".join(self.headers.getall("Connection", ())).lower()
        self.keeps_alive = version == 1 and "close" not in said
        if self.status in _WITHOUT_BODY:
            self.ended = True
        elif coding is not None:
            if coding.strip().lower() != "chunked":
                raise NotHttpError(f"the server's answer comes as {coding!r}, not as chunks")
            self._take = self._chunks
        elif (length := self.headers.get("Content-Length")) is not None:
            if not re.fullmatch("[0-9]{1,15}", length) or len(self.headers.getall("Content-Length")) > 1:
                raise NotHttpError(f"the server's answer has no length in {length!r}")
            self._left = int(length)
            self._take = self._counted
            self.ended = self._left == 0
        else:
            self._take = self._all

    def _all(self, data: bytes) -> bytes:
        return data

    def _counted(self, data: bytes) -> bytes:
        body = data[: self._left]
        self._left -= len(body)
        self.ended = self._left == 0
        self.keeps_alive = self.keeps_alive and len(body) == len(data)
        return body

    def _chunks(self, data: bytes) -> bytes:
        """Take the data out of chunks; `_left` is how much of one is still to come, with the line end after it."""
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                at = self._rest_of_chunk(data, at, parts)
                continue
            end = data.find(_LINE_END, at)
            if end < 0:
                if size - at > MOST_OF_A_HEAD:
                    raise NotHttpError("the server's answer has a chunk without end of its first line")
                self._held = data[at:]
                break
            if (match := _SIZE.match(data, at, end)) is None:
                raise NotHttpError(f"the server's answer has no size of a chunk in {data[at : min(end, at + 100)]!r}")
            at = end + 2
            length = int(match[1], 16)
            if length == 0:
                self._take = self._trailers
                self._trailers(data[at:])
                break
            if data.startswith(_LINE_END, at + length):  # as a token comes: all of a chunk at once
                parts.append(data[at : at + length])
                at += length + 2
            else:
                self._left = length + 2
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _rest_of_chunk(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Take what is there of a chunk, whose last two bytes end a line; return where the next begins."""
        there = min(self._left, len(data) - at)
        of_body = min(there, max(0, self._left - 2))
        if of_body:
            parts.append(data[at : at + of_body])
        expected = _LINE_END[2 - min(2, self._left) :][: there - of_body]
        if data[at + of_body : at + there] != expected:
            raise NotHttpError("the server's answer has a chunk longer than it says")
        self._left -= there
        return at + there

    def _trailers(self, data: bytes) -> bytes:
        data, self._held = self._held + data, b""
        while not self.ended:
            line, end, rest = data.partition(_LINE_END)
            if not end:
                if len(data) > MOST_OF_A_HEAD:
                    raise NotHttpError("the server's answer has no end of its trailers")
                self._held = data
                break
            self.ended, data = not line, rest
        if self.ended and data:
            self.keeps_alive = False
        return b""
