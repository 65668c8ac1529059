"""Headers behind a URL, by range requests for the first MiBs: a plan for a model needs no download of it."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from corral.gguf.errors import GgufError
from corral.gguf.files import part_names
from corral.gguf.header import Header, Part, assemble
from corral.gguf.parser import HEADER_LIMIT, IncompleteError, parse

DEADLINE_S = 60.0
CONNECT_TIMEOUT_S = 10.0
FIRST_BYTES = 1024 * 1024  # a header without a vocabulary ends here, and another kind of file is told from a model
_TOTAL = re.compile(r"^bytes \d+-\d+/(\d+)$")


async def read_url(
    url: str,
    *,
    deadline_s: float = DEADLINE_S,
    headers: Mapping[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Header:
    """Read the header of the model at `url`, all parts of a split one, within `deadline_s` in all.

    At most 64 MiB a part are fetched, in ranges that double until the header is whole. A server that ignores `Range`
    is read as a stream up to there and then hung up on. Redirects are followed; of `headers`, Authorization does not
    go along to another address. `transport` is for tests.

    Raises:
        GgufError: no answer in time, an answer other than the file, or a file that `files.read_file` would refuse too.
    """
    try:
        async with asyncio.timeout(deadline_s), _client(headers, transport) as client:
            parts, sizes = [], []
            for part_url in _part_urls(url):
                part, size = await _read_part(client, part_url)
                parts.append(part)
                sizes.append(size)
    except TimeoutError:
        raise GgufError(
            f"{url} did not give its header in {deadline_s:g} s", "check the network, or download the model first"
        ) from None
    except httpx.InvalidURL as error:
        raise GgufError(f"{url} is no URL ({error})", "give http(s)://host/path/model.gguf") from None
    except httpx.HTTPError as error:
        raise GgufError(
            f"{url} cannot be read ({error or type(error).__name__})", "check the address and the network"
        ) from None
    return assemble(url, parts, sum(sizes))


@asynccontextmanager
async def _client(
    headers: Mapping[str, str] | None, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[httpx.AsyncClient]:
    timeout = httpx.Timeout(DEADLINE_S, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(
        headers=headers, follow_redirects=True, timeout=timeout, transport=transport
    ) as client:
        yield client


def _part_urls(url: str) -> list[httpx.URL]:
    parsed = httpx.URL(url)
    folder, _, name = parsed.path.rpartition("/")
    return [parsed.copy_with(path=f"{folder}/{part}") for part in part_names(name)]


async def _read_part(client: httpx.AsyncClient, url: httpx.URL) -> tuple[Part, int]:
    received = bytearray()
    wanted = FIRST_BYTES
    while True:
        # identity: a compressed answer would have ranges of the compressed bytes
        headers = {"range": f"bytes={len(received)}-{wanted - 1}", "accept-encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.OK:
                return await _read_stream(response, url)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise _refused(url, response)
            size = _total(response, url)
            await _receive(response, received, wanted)
        try:
            return _whole(parse(received, str(url)), size, url), size
        except IncompleteError:
            if len(received) < wanted:
                raise _cut_short(url) from None
        wanted = min(2 * wanted, HEADER_LIMIT)


async def _read_stream(response: httpx.Response, url: httpx.URL) -> tuple[Part, int]:
    """Read a server that ignores ranges: the parser looks again each time twice as much has come."""
    announced = response.headers.get("content-length", "")
    received = bytearray()
    look_at = FIRST_BYTES
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) < look_at:
            continue
        look_at = 2 * len(received)
        try:
            return _sized(parse(received, str(url)), announced, url)
        except IncompleteError:
            continue
    try:
        return _sized(parse(received, str(url)), announced or str(len(received)), url)
    except IncompleteError:
        raise _cut_short(url) from None


def _sized(part: Part, announced: str, url: httpx.URL) -> tuple[Part, int]:
    size = int(announced) if announced.isdecimal() else part.data_start + part.data_bytes
    return _whole(part, size, url), size


async def _receive(response: httpx.Response, received: bytearray, wanted: int) -> None:
    async for chunk in response.aiter_bytes():
        received += chunk[: wanted - len(received)]
        if len(received) >= wanted:
            return


def _total(response: httpx.Response, url: httpx.URL) -> int:
    given = response.headers.get("content-range", "")
    match = _TOTAL.match(given)
    if match is None:
        raise GgufError(f"{url} answered with the range {given!r}", "download the model first")
    return int(match[1])


def _whole(part: Part, size: int, url: httpx.URL) -> Part:
    if part.data_start + part.data_bytes > size:
        raise _cut_short(url)
    return part


def _cut_short(url: httpx.URL) -> GgufError:
    return GgufError(f"the file at {url} is cut short", "upload it again, or take another address")


def _refused(url: httpx.URL, response: httpx.Response) -> GgufError:
    code = response.status_code
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return GgufError(
            f"{url} refused the download ({code})", "download it with your account, then plan from the file"
        )
    if code == httpx.codes.NOT_FOUND:
        return GgufError(f"{url} was not found ({code})", "correct the address")
    if code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _cut_short(url)
    return GgufError(f"{url} answered {code} {response.reason_phrase}", "try again later, or download the model first")
