"""A server's answer as bytes: its body is the same however it is framed and cut, and what is no HTTP is said."""

import pytest

from corral_fast_path.http1 import MOST_OF_A_HEAD, AnswerParser, NotHttpError

BODY = "data: wörd\n\ndata: [DONE]\n\n".encode()
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-One:  two words \r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
    b"3\r\n%b\r\n%X;named=value\r\n%b\r\n0\r\nTrailer: x\r\n\r\n" % (BODY[:3], len(BODY) - 3, BODY[3:])
)
UNTIL_THE_END = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
PROVISIONAL = b"HTTP/1.1 100 Continue\r\n\r\n" * 1200 + COUNTED


def fed(answer: bytes, size: int) -> tuple[AnswerParser, bytes]:
    parser, body = AnswerParser(), b""
    for at in range(0, len(answer), size):
        body += parser.feed(answer[at : at + size])
    return parser, body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize(
    ("answer", "keeps_alive"), [(COUNTED, True), (CHUNKED, True), (UNTIL_THE_END, False), (PROVISIONAL, True)]
)
def test_a_body_is_the_same_wherever_it_is_cut(answer: bytes, keeps_alive: bool, size: int) -> None:
    parser, body = fed(answer, size)
    assert (parser.status, body) == (200, BODY)
    assert parser.ended == keeps_alive
    assert parser.keeps_alive == keeps_alive
    parser.feed_end()
    assert parser.ended


def test_headers() -> None:
    parser, _ = fed(COUNTED, 5)
    assert parser.headers["x-one"] == "two words"


@pytest.mark.parametrize("answer", [COUNTED, CHUNKED])
def test_an_answer_that_is_cut_off_is_not_whole(answer: bytes) -> None:
    for end in range(len(answer)):
        parser, body = fed(answer[:end], 1 << 20)
        parser.feed_end()
        assert not parser.ended
        assert BODY.startswith(body)


@pytest.mark.parametrize("answer", [COUNTED, CHUNKED])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_connection_that_says_more_than_its_answer_takes_no_other_request(answer: bytes, size: int) -> None:
    parser, body = fed(answer + b"HTTP/1.1 200 OK", size)
    assert (body, parser.ended, parser.keeps_alive) == (BODY, True, False)


def test_an_answer_that_ends_its_connection() -> None:
    parser, _ = fed(COUNTED.replace(b"X-One:  two words", b"Connection: Close"), 9)
    assert (parser.ended, parser.keeps_alive) == (True, False)


def test_an_answer_without_body_is_whole_with_its_head() -> None:
    for answer in (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n"):
        parser, body = fed(answer, 1 << 20)
        assert (parser.ended, body, parser.keeps_alive) == (True, b"", True)


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace before : colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MOST_OF_A_HEAD + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"t" * (MOST_OF_A_HEAD + 1),
        b"HTTP/1.1 200 OK\r\n" + b"x" * (MOST_OF_A_HEAD + 1),
    ],
)
def test_what_is_no_http(answer: bytes, size: int) -> None:
    with pytest.raises(NotHttpError):
        fed(answer, max(size, len(answer) // 50))
