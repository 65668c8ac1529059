"""Headers behind a URL: only what is needed is fetched, and every failure says what to do."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from corral.gguf.errors import GgufError
from corral.gguf.files import read_file
from corral.gguf.parser import HEADER_LIMIT
from corral.gguf.remote import FIRST_BYTES, read_url
from support.gguf_files import Model, header_bytes, write
from support.gguf_models import Sizes, small

URL = "http://models.test/folder/model.gguf"
MODEL = small(Sizes(layers=2, vocabulary=100_000))  # a header of 2.3 MiB
HEADER = header_bytes(MODEL)
FILE_BYTES = len(HEADER) + 200_000_000


class Hub(httpx.AsyncBaseTransport):
    """A server that knows ranges; `fetched` counts the bytes it sent."""

    def __init__(self, files: dict[str, bytes], size: int = FILE_BYTES) -> None:
        self._files = files
        self._size = size
        self.ranges: list[tuple[int, int]] = []

    @property
    def fetched(self) -> int:
        return sum(end - start for start, end in self.ranges)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = self._files.get(request.url.path)
        if content is None:
            return httpx.Response(404)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["range"])
        assert asked
        start, end = int(asked[1]), min(int(asked[2]) + 1, self._size)
        self.ranges.append((start, end))
        body = content[start:end].ljust(end - start, b"\0")
        return httpx.Response(206, headers={"content-range": f"bytes {start}-{end - 1}/{self._size}"}, content=body)


async def test_only_the_header_is_fetched_in_growing_ranges(tmp_path: Path) -> None:
    hub = Hub({"/folder/model.gguf": HEADER})
    header = await read_url(URL, transport=hub)
    local = read_file(write(tmp_path / "model.gguf", MODEL))
    assert (header.tensors, dict(header.metadata)) == (local.tensors, dict(local.metadata))
    assert header.file_bytes == FILE_BYTES
    assert hub.ranges[0] == (0, FIRST_BYTES)
    assert all(before[1] == after[0] for before, after in zip(hub.ranges, hub.ranges[1:], strict=False))
    assert hub.fetched < 2 * len(HEADER)


async def test_redirects_are_followed() -> None:
    hub = Hub({"/folder/model.gguf": HEADER})

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "models.test":
            return httpx.Response(302, headers={"location": "http://store.test/folder/model.gguf"})
        return await hub.handle_async_request(request)

    assert (await read_url(URL, transport=httpx.MockTransport(answer))).architecture == "llama"


async def test_parts_of_a_split_model_are_found() -> None:
    half = len(MODEL.tensors) // 2
    first = Model({**MODEL.metadata, "split.count": 2}, MODEL.tensors[:half], MODEL.tokens)
    second = Model({"split.count": 2}, MODEL.tensors[half:])
    hub = Hub({"/m-00001-of-00002.gguf": header_bytes(first), "/m-00002-of-00002.gguf": header_bytes(second)})
    header = await read_url("http://models.test/m-00001-of-00002.gguf?download=true", transport=hub)
    assert len(header.tensors) == len(MODEL.tensors)
    assert header.file_bytes == 2 * FILE_BYTES


@pytest.fixture
def plain_server(tmp_path: Path) -> Iterator[str]:
    """Python's own file server, which knows no ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
            return

        def copyfile(self, source: object, outputfile: object) -> None:
            try:
                super().copyfile(source, outputfile)
            except OSError:
                return  # the client has seen enough

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_a_server_without_ranges_is_read_as_far_as_needed(tmp_path: Path, plain_server: str) -> None:
    local = read_file(write(tmp_path / "model.gguf", MODEL))
    header = await read_url(f"{plain_server}/model.gguf")
    assert (header.tensors, header.file_bytes) == (local.tensors, local.file_bytes)


async def test_a_stream_without_end_is_hung_up_on() -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEADER
        while True:
            sent += 1024
            yield bytes(1024)

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
    header = await read_url(URL, transport=transport)
    assert header.tensors[0].name == "token_embd.weight"
    assert sent < 3 * len(HEADER)


async def test_a_header_over_the_limit_is_refused() -> None:
    endless = header_bytes(Model(MODEL.metadata, []))[:24] + (2**26).to_bytes(8, "little") + bytes(100)
    hub = Hub({"/folder/model.gguf": endless}, size=10**10)
    with pytest.raises(GgufError, match="corrupt"):
        await read_url(URL, transport=hub)
    assert hub.fetched <= HEADER_LIMIT


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"refused the download \(401\); download it with your account"),
        (404, r"was not found \(404\); correct the address"),
        (416, "is cut short"),
        (503, "answered 503 Service Unavailable; try again later"),
    ],
)
async def test_a_refusal_says_what_to_do(status: int, message: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status))
    with pytest.raises(GgufError, match=message):
        await read_url(URL, transport=transport)


async def test_another_kind_of_file_is_told_from_its_first_bytes() -> None:
    hub = Hub({"/folder/model.gguf": b"<html>please log in</html>"})
    with pytest.raises(GgufError, match=r"model\.gguf is no GGUF file"):
        await read_url(URL, transport=hub)
    assert hub.fetched == FIRST_BYTES


async def test_a_file_that_ends_too_soon_is_told() -> None:
    for size in (len(HEADER) - 1000, len(HEADER) + 1000):
        with pytest.raises(GgufError, match="cut short"):
            await read_url(URL, transport=Hub({"/folder/model.gguf": HEADER}, size=size))


async def test_a_server_that_stalls_is_left_in_time() -> None:
    async def stall(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(GgufError, match=r"did not give its header in 0\.05 s; check the network"):
        await read_url(URL, deadline_s=0.05, transport=httpx.MockTransport(stall))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/model.gguf", "model.gguf", "http://[::1/model.gguf"])
async def test_an_address_that_leads_nowhere_is_told(url: str) -> None:
    with pytest.raises(GgufError, match=r"cannot be read|is no URL"):
        await read_url(url)
