"""Asks servers for models: what a file is before it is fetched, and what their refusals mean.

A file is asked for by a GET of its first four bytes, which any server answers, unlike HEAD behind signed redirects. It
tells the size, whether the server can resume (RFC 9110, range requests), and that it is a GGUF and no login page.
"""

import email.utils
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import httpx

from corral.models.errors import ModelError
from corral.models.persistence import TransientError
from corral.models.records import MAGIC
from corral.models.sources import HubSource, RemoteSource

PUBLIC_HUB = "https://huggingface.co"
TIMEOUT = httpx.Timeout(connect=15.0, read=30.0, write=15.0, pool=None)  # seconds; `read` is for each piece of a body
MOST_REDIRECTS = 10

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Hub:
    """A model hub. The token goes to its own address only, and to no other that it redirects to."""

    endpoint: str = PUBLIC_HUB
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Hub":
        """Read HF_ENDPOINT and HF_TOKEN.

        Raises:
            ModelError: HF_ENDPOINT is no address.
        """
        endpoint = environment.get("HF_ENDPOINT", "").strip().rstrip("/") or PUBLIC_HUB
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError(
                "HF_ENDPOINT is no http or https address", f"set one like {PUBLIC_HUB}, or unset it", exit_code=2
            )
        return cls(endpoint, environment.get("HF_TOKEN", "").strip() or None)

    def url(self, source: HubSource) -> str:
        """Return the address of a file."""
        return f"{self.endpoint}/{source.hub}/resolve/{quote(source.revision, safe='')}/{quote(source.file)}"

    def headers(self) -> dict[str, str]:
        """Return what authorises a request; nothing in clear text over a network."""
        parts = urlsplit(self.endpoint)
        safe = parts.scheme == "https" or parts.hostname in _LOOPBACK
        return {"Authorization": f"Bearer {self.token}"} if self.token and safe else {}


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server, as it was when asked. What the server does not tell is None.

    `validator` is a strong ETag or a Last-Modified date, fit for If-Range. `published_sha256` is the hub's.
    """

    url: str
    size: int | None
    validator: str | None
    published_sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def client() -> httpx.AsyncClient:
    """Return a client for downloads: it follows redirects, and heeds the proxies in the environment."""
    return httpx.AsyncClient(
        timeout=TIMEOUT,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        headers={"Accept-Encoding": "identity", "User-Agent": "corral"},
        limits=httpx.Limits(max_keepalive_connections=0),
        auth=_netrc(),
    )


async def look(source: RemoteSource, hub: Hub, web: httpx.AsyncClient) -> Remote:
    """Ask what a file is.

    Raises:
        TransientError: no answer, or one that may be another next time.
        ModelError: the server refuses, or what it has is no GGUF.
    """
    url = hub.url(source) if isinstance(source, HubSource) else source.url
    headers = hub.headers() if isinstance(source, HubSource) else {}
    async with asking(web, source, url, {**headers, "Range": f"bytes=0-{len(MAGIC) - 1}"}) as response:
        start = b""
        async for chunk in response.aiter_raw():
            start += chunk
            if len(start) >= len(MAGIC):
                break
        if not start.startswith(MAGIC):
            raise ModelError(f"{source} is no GGUF file: it starts with {start[:4]!r}", "check the address")
        sha256 = _published_sha256(response) if isinstance(source, HubSource) else None
        return Remote(url, whole_size(response), validator(response), sha256, headers)


@asynccontextmanager
async def asking(
    web: httpx.AsyncClient, source: RemoteSource, url: str, headers: Mapping[str, str]
) -> AsyncIterator[httpx.Response]:
    """Give a 200 or 206 answer whose body is yet to be read; faults, also those in the block, become ours."""
    try:
        async with web.stream("GET", url, headers=dict(headers)) as response:
            if response.status_code not in (200, 206):
                raise _refusal(response, source)
            if url.startswith("https:") and response.url.scheme != "https":
                raise ModelError(f"{source} redirects from https to http", "fetch it from a server that does not")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ModelError(f"{source} is only sent compressed", "fetch it from a server that sends it as it is")
            yield response
    except httpx.TooManyRedirects as error:
        raise ModelError(f"{source} redirects more than {MOST_REDIRECTS} times", "check the address") from error
    except httpx.UnsupportedProtocol as error:
        raise ModelError(f"{source} redirects to something that is not http", "check the address") from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            mend = "check the clock, or name your certificates in SSL_CERT_FILE"
            raise ModelError(f"{source}: the server's certificate is not trusted", mend) from error
        raise TransientError(f"{source}: {_in_words(error)}") from error


def whole_size(response: httpx.Response) -> int | None:
    """Return the size of the whole file in bytes, whether all or part of it is sent."""
    if response.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        return int(found[3]) if found and found[3] != "*" else None
    length = response.headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def first_byte(response: httpx.Response) -> int | None:
    """Return where the part of a 206 answer begins; None if it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def validator(response: httpx.Response) -> str | None:
    """Return what tells this version of a file from the next: a strong ETag, else its date."""
    tag: str = response.headers.get("etag", "")
    if tag.startswith('"'):
        return tag
    date: str = response.headers.get("last-modified", "")
    return date or None


def _published_sha256(response: httpx.Response) -> str | None:
    """Return the SHA-256 that a hub tells for large files, in the answer that redirects to its store."""
    for answer in (*response.history, response):
        if found := _SHA256.fullmatch(answer.headers.get("x-linked-etag", "")):
            return found[1]
    return None


def _refusal(response: httpx.Response, source: RemoteSource) -> Exception:
    status = response.status_code
    said = f"{source}: the server answers {status} {response.reason_phrase}".rstrip()
    if status in _TRANSIENT_STATUS:
        return TransientError(said, _retry_after_s(response))
    if status in (401, 403):
        if isinstance(source, HubSource):
            return ModelError(
                said, "accept the model's licence on the hub, and set HF_TOKEN to a token that may read it"
            )
        return ModelError(said, "put user and password into ~/.netrc, or download it and give path:")
    if status in (404, 410):
        return ModelError(said, "check the names in the farm file: file, repository and revision, or the address")
    if status == 416:
        return ModelError(said, "the file there is empty or has changed; pull again")
    return ModelError(said, "check the address")


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110)."""
    text = response.headers.get("retry-after", "")
    if text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _in_words(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {TIMEOUT.connect:.0f} s"
    if isinstance(error, httpx.ReadTimeout):
        return "the server has stopped sending"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return "the connection broke"
    return f"cannot connect ({error or type(error).__name__})"


def _netrc() -> httpx.NetRCAuth | None:
    """Return the logins that the user keeps for curl and others; None if there are none that can be read."""
    try:
        return httpx.NetRCAuth()
    except (OSError, SyntaxError):  # NetrcParseError is a SyntaxError
        return None
