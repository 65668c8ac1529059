"""The fast path's parser of answers: however one is framed and cut, its body is what llhttp finds, or it is no HTTP."""

import contextlib
import itertools
from collections.abc import Iterable

import httptools
from hypothesis import given
from hypothesis import strategies as st

from corral_fast_path.http1 import AnswerParser, NotHttpError

HEAD = b"HTTP/1.1 200 OK\r\n"
bodies = st.lists(st.binary(min_size=1, max_size=40) | st.just(b"\r\n0\r\n\r\n"), max_size=6)
extensions = st.sampled_from([b"", b";a", b";a=b"])
trailers = st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ: \r\n"])
fragments = st.sampled_from(
    [HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n",
     b"3\r\nabc\r\n", b"0\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"Connection: close\r\n", b"\n", b"\x00"]
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Give an answer that is in order."""
    body = draw(bodies)
    if draw(st.booleans()):
        return HEAD + b"Content-Length: %d\r\n\r\n" % sum(map(len, body)) + b"".join(body)
    chunks = [b"%x%b\r\n%b\r\n" % (len(one), draw(extensions), one) for one in body]
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n" + draw(trailers) + b"\r\n"


def cut(answer: bytes, places: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(answer) + 1) for place in places), len(answer)]
    return [answer[start:end] for start, end in itertools.pairwise(bounds)]


class Reference:
    """What llhttp makes of an answer."""

    def __init__(self, answer: bytes) -> None:
        self.body = b""
        self.ended = False
        httptools.HttpResponseParser(self).feed_data(answer)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended = True


@given(answers(), st.lists(st.integers(min_value=0), max_size=8))
def test_the_body_is_what_another_parser_finds(answer: bytes, places: list[int]) -> None:
    parser, body = AnswerParser(), b""
    for piece in cut(answer, places):
        body += parser.feed(piece)
    reference = Reference(answer)
    assert (body, parser.ended, parser.keeps_alive) == (reference.body, True, True)
    assert reference.ended


@given(st.lists(fragments | st.binary(max_size=20), max_size=12), st.booleans())
def test_whatever_comes_is_taken_or_is_no_http(pieces: list[bytes], led: bool) -> None:
    parser = AnswerParser()
    with contextlib.suppress(NotHttpError):
        for piece in [HEAD, *pieces] if led else pieces:
            parser.feed(piece)
    parser.feed_end()
    assert not parser.keeps_alive
