"""The farm's servers as they are seen from this machine: whether they answer, and what time they have."""

import asyncio
import email.utils
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from corral.doctor.findings import Finding

DEADLINE_S = 3.0
SKEW_S = 5.0
GATE = "gate"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Contact:
    """What came of asking one server: a finding, and by how many seconds its clock is ahead of ours."""

    url: str
    finding: Finding
    skew_s: float | None = None

    @property
    def local_port(self) -> int | None:
        """The port of this machine at which something of the farm answered."""
        parts = urlsplit(self.url)
        answered = self.finding.level != "error"
        return parts.port if answered and parts.hostname in _LOOPBACK else None


async def contact(servers: Sequence[tuple[str, str]], gate_url: str | None) -> list[Contact]:
    """Ask every server's `/health`, and the gate's, at once; each within 3 s, and past any proxy."""
    asked = [(name, url, "/health") for name, url in servers]
    if gate_url is not None:
        asked.append((GATE, gate_url, "/health/readiness"))
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=httpx.Timeout(DEADLINE_S, pool=None), trust_env=False, limits=limits) as web:
        return list(await asyncio.gather(*(_ask(web, name, url, path) for name, url, path in asked)))


async def _ask(web: httpx.AsyncClient, name: str, url: str, path: str) -> Contact:
    began = time.monotonic()
    try:
        answer = await web.get(url.rstrip("/").removesuffix("/v1") + path)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Contact(url, _unreachable(name, url, error))
    took_s = time.monotonic() - began
    return Contact(url, _reached(name, url, answer, took_s), _skew_s(answer, time.time() - took_s / 2))


def _unreachable(name: str, url: str, error: Exception) -> Finding:
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | ValueError):
        return Finding("servers", "error", f"{name}: {url} is no address", "correct it in the farm file")
    if isinstance(error, httpx.TimeoutException):
        mend = "is that host up, and does a firewall drop packets? A server that hangs: see its log"
        return Finding("servers", "error", f"{name}: {url} does not answer within {DEADLINE_S:.0f} s", mend)
    if isinstance(error, httpx.ConnectError):
        mend = "start it, or correct host and port in the farm file"
        return Finding("servers", "error", f"{name}: no connection to {url} ({error})", mend)
    return Finding("servers", "error", f"{name}: {url} does not speak HTTP", "does another program have its port?")


def _reached(name: str, url: str, answer: httpx.Response, took_s: float) -> Finding:
    if answer.status_code == httpx.codes.OK:
        return Finding("servers", "ok", f"{name}: {url} is ready ({took_s * 1000:.0f} ms)")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return Finding("servers", "warning", f"{name}: {url} cannot serve now{_state(answer)}", "see its log")
    return Finding(
        "servers", "error", f"{name}: {url} answers {answer.status_code}", "does another program have its port?"
    )


def _state(answer: httpx.Response) -> str:
    try:
        state = answer.json()["state"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""
    return f": it is {state}" if isinstance(state, str) and state.isalpha() else ""


def _skew_s(answer: httpx.Response, now: float) -> float | None:
    """Return how far a server's clock is ahead. Its Date has whole seconds, cut off: half of one is the best guess."""
    try:
        there = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return None
    return there.timestamp() + 0.5 - now


def check_skew(contacts: Sequence[Contact]) -> Finding:
    """Compare this machine's clock with those of the servers."""
    known = {contact.url: contact.skew_s for contact in contacts if contact.skew_s is not None}
    wrong = {url: skew for url, skew in known.items() if abs(skew) > SKEW_S}
    if not known:
        return Finding("clock", "note", "no server answered with its time: clocks were not compared")
    if not wrong:
        most = max(abs(skew) for skew in known.values())
        return Finding("clock", "ok", f"clocks of {len(known)} server(s) are within {max(1.0, most):.0f} s of this one")
    worst = max(wrong, key=lambda url: abs(wrong[url]))
    way = "ahead of" if wrong[worst] > 0 else "behind"
    others = f" ({len(wrong)} of {len(known)} servers differ)" if len(known) > 1 else ""
    mend = "timedatectl set-ntp true on the machine that is wrong: `date -u` on both tells which"
    return Finding("clock", "warning", f"{worst} is {abs(wrong[worst]):.0f} s {way} this machine{others}", mend)
