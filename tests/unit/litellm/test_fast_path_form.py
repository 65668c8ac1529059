"""Forms: which the fast path takes, and that what is sent on says what was received, and one model."""

import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartParser

from corral_fast_path.form import Form
from corral_fast_path.kinds import KINDS

KIND = next(kind for kind in KINDS if kind.is_form)
CONTENT = b"\r\n--boundary--\r\n" + bytes(range(256)) * 1000


def file(name: str | None = "a.wav", kind: str = "audio/wav") -> UploadFile:
    return UploadFile(io.BytesIO(CONTENT), size=len(CONTENT), filename=name, headers=Headers({"content-type": kind}))


@pytest.mark.parametrize("more", [{}, {"response_format": "json"}, {"prompt": "a", "temperature": "0"}])
def test_what_is_taken(more: dict[str, Any]) -> None:
    assert KIND.takes({"model": "ears", "file": file(), **more})


@pytest.mark.parametrize("more", [{"file": "text"}, {"file": file(None)}, {"file": None}, {"response_format": "srt"}])
def test_what_is_left_to_litellm(more: dict[str, Any]) -> None:
    assert not KIND.takes({"model": "ears", "file": file(), **more})


@asynccontextmanager
async def parsed(form: Form) -> AsyncIterator[FormData]:
    body = b"".join([piece async for piece in form.pieces()])
    assert len(body) == form.length

    async def pieces() -> AsyncGenerator[bytes]:
        yield body

    found = await MultiPartParser(Headers({"content-type": form.content_type}), pieces()).parse()
    yield found
    await found.close()


@pytest.mark.parametrize("model", [None, "chat"])
async def test_what_is_sent_on(model: str | None) -> None:
    items = [("model", "a"), ("file", file('my "so\r\nund".wav')), ("model", "b"), ("t[]", "wörd"), ("t[]", "2")]
    form = Form(items, model)
    for _ in range(2):  # as for a second server
        async with parsed(form) as found:
            assert found.getlist("model") == (["a", "b"] if model is None else [model])
            assert found.getlist("t[]") == ["wörd", "2"]
            sent = found["file"]
            assert isinstance(sent, UploadFile)
            assert (sent.filename, sent.content_type) == ("my %22so%0D%0Aund%22.wav", "audio/wav")
            assert await sent.read() == CONTENT


async def test_a_line_end_in_a_files_type_begins_no_header() -> None:
    async with parsed(Form([("file", file(kind="a/b\r\nX-Other: 1"))])) as found:
        sent = found["file"]
        assert isinstance(sent, UploadFile)
        assert set(sent.headers) == {"content-disposition", "content-type"}
