"""What a request's prompt shares with others: a chain of digests, one for each message, and no text.

Each digest covers its message and all before it, the tools first, as chat templates put them. Two prompts with the
same digest so have the same beginning up to there, and a server that processed one need not process it again. Long
messages are cut into blocks, so that documents that begin alike share what they share.

Digests are BLAKE2b of 64 bits, salted with the digest before: the same in every process, so that several workers can
name the same prefix.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

BLOCK_CHARS = 4096
MOST_BLOCKS = 64
"""Of one message; what lies beyond is one block more."""
MOST_NODES = 1024
"""Of one prompt: messages beyond are not told apart."""
MEDIA_CHARS = 2400
"""An image or a sound counts as this much text, about 600 tokens, whatever the length of its encoding."""
MESSAGE_CHARS = 16
"""What a chat template adds to each message, about 4 tokens."""
_INSTRUCTIONS = ("system", "developer")
_EXTRAS = ("tool_calls", "name", "tool_call_id")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's chain.

    Args:
        nodes: a digest for each prefix, the shortest first; never empty.
        chars: the length of each prefix in characters.
        anchor: the digest of what a conversation keeps from its first turn on: up to its first message that is no
            instruction.
    """

    nodes: tuple[int, ...]
    chars: tuple[int, ...]
    anchor: int


def prompt_of(request: Mapping[str, Any], messages: Sequence[Any] | None = None) -> Prompt | None:
    """Return the prompt of a request body of chat, completions, responses or messages; None if it has none.

    Args:
        request: the body's fields; `tools`, `system`, `instructions`, `input`, `prompt` are looked at.
        messages: the chat, where it is not among them.
    """
    if messages is None:
        messages = request.get("messages")
    chain = _Chain()
    for instruction in ("tools", "system", "instructions"):
        if value := request.get(instruction):
            text = _text(value)
            chain.add(f"{instruction}\0", text, len(text))
    if not messages:
        messages = request.get("input") or request.get("prompt")
    if isinstance(messages, str):
        chain.add_long("text\0", messages)
        chain.anchor_here()
    elif isinstance(messages, Sequence):
        chain.add_messages(messages)
    return chain.prompt()


class _Chain:
    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._chars: list[int] = []
        self._length = 0
        self._anchor: int | None = None

    def add(self, label: str, text: str, chars: int) -> None:
        told = (label + text).encode("utf-8", "surrogatepass")
        self._digests.append(blake2b(told, digest_size=8, salt=self._digests[-1] if self._digests else b"").digest())
        self._length += chars
        self._chars.append(self._length)

    def add_messages(self, messages: Sequence[Any]) -> None:
        """Add a chat. Short plain texts, as nearly all are, go by here in half the time: see `_add_message`."""
        digests, counts = self._digests, self._chars
        digest = digests[-1] if digests else b""
        for message in messages:
            if len(digests) >= MOST_NODES:
                return
            if type(message) is dict and len(message) == 2:
                role, text = message.get("role"), message.get("content")
                if type(role) is str and type(text) is str and len(text) <= BLOCK_CHARS:
                    told = f"{role}\0{text}".encode("utf-8", "surrogatepass")
                    digest = blake2b(told, digest_size=8, salt=digest).digest()
                    digests.append(digest)
                    self._length += len(role) + 1 + len(text) + MESSAGE_CHARS
                    counts.append(self._length)
                    if self._anchor is None and role not in _INSTRUCTIONS:
                        self._anchor = len(digests) - 1
                    continue
            _add_message(self, message)
            digest = digests[-1]

    def add_long(self, label: str, text: str, more: int = 0) -> None:
        """Add a text in blocks; `more` characters are counted with its first."""
        for at in _starts(len(text)):
            end = at + BLOCK_CHARS if at < BLOCK_CHARS * (MOST_BLOCKS - 1) else len(text)
            self.add(label, text[at:end], end - at + more)
            more = 0

    def anchor_here(self) -> None:
        if self._anchor is None and self._digests:
            self._anchor = len(self._digests) - 1

    def prompt(self) -> Prompt | None:
        if not self._digests:
            return None
        nodes = struct.unpack(f">{len(self._digests)}Q", b"".join(self._digests))
        return Prompt(nodes, tuple(self._chars), nodes[-1 if self._anchor is None else self._anchor])


def _starts(length: int) -> Iterator[int]:
    return iter(range(0, min(length, BLOCK_CHARS * MOST_BLOCKS) or 1, BLOCK_CHARS))


def _add_message(chain: _Chain, message: Any) -> None:
    if type(message) is not dict and not isinstance(message, Mapping):  # the second is slow
        text = _text(message)
        chain.add("text\0", text, len(text))
        chain.anchor_here()
        return
    role, content = message.get("role"), message.get("content")
    label = f"{role}\0"
    if len(message) > 2:
        for extra in _EXTRAS:
            if value := message.get(extra):
                label += f"{extra}\0{_text(value)}\0"
    more = MESSAGE_CHARS + len(label)
    if not isinstance(content, str):
        text, chars = _parts(content)
        chain.add(label, text, chars + more)
    elif len(content) <= BLOCK_CHARS:
        chain.add(label, content, len(content) + more)
    else:
        chain.add_long(label, content, more)
    if role not in _INSTRUCTIONS:
        chain.anchor_here()


def _parts(content: Any) -> tuple[str, int]:
    """Return what content in parts is digested as, and how long it counts."""
    if not isinstance(content, Sequence):
        text = "" if content is None else _text(content)
        return text, len(text)
    texts, chars = [], 0
    for part in content:
        said = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(said, str):
            texts.append(said)
            chars += len(said)
        else:
            texts.append(_text(part))
            chars += MEDIA_CHARS
    return "\0".join(texts), chars


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return repr(type(value))
