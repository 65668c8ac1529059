"""A request that comes as a form (multipart/form-data, RFC 7578), with its files on disk.

LiteLLM's parser reads it, the same on either way. What goes on is written anew from what it found: the model has to be
replaced, and no other parser must find another model in it than the one that the key was held against.
"""

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from starlette.datastructures import UploadFile

_PIECE = 64 << 10
_MODEL = "model"


@dataclass(frozen=True)
class _Part:
    head: bytes
    content: bytes | UploadFile

    @property
    def length(self) -> int:
        content = self.content
        return len(self.head) + (len(content) if isinstance(content, bytes) else content.size or 0) + len(b"\r\n")


class Form:
    """A form as it is sent on; with `model` in place of the one or more that it names.

    Attributes:
        content_type: of it, which names its boundary.
        length: in bytes.
    """

    def __init__(self, items: Iterable[tuple[str, str | UploadFile]], model: str | None = None) -> None:
        boundary = secrets.token_hex(16)  # that nobody who sends a file can have put into it
        if model is not None:
            items = ((_MODEL, model), *((name, value) for name, value in items if name != _MODEL))
        self._parts = [_part(boundary, name, value) for name, value in items]
        self._end = f"--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = sum(part.length for part in self._parts) + len(self._end)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give its bytes, from the start each time this is called."""
        for part in self._parts:
            yield part.head
            if isinstance(part.content, bytes):
                yield part.content
            else:
                await part.content.seek(0)
                while piece := await part.content.read(_PIECE):
                    yield piece
            yield b"\r\n"
        yield self._end


def _part(boundary: str, name: str, value: str | UploadFile) -> _Part:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{_quoted(name)}"']
    if isinstance(value, UploadFile):
        lines[1] += f'; filename="{_quoted(value.filename or "")}"'
        lines.append(f"Content-Type: {_one_line(value.content_type or 'application/octet-stream')}")
    head = "\r\n".join((*lines, "", "")).encode()
    return _Part(head, value if isinstance(value, UploadFile) else value.encode())


def _quoted(name: str) -> str:
    """Return a name as browsers put it between quotes."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
