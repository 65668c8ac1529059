"""Clients misbehave: they leave, crowd, dawdle, or send what no server should be sent."""

import asyncio
import concurrent.futures
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx
import psutil
import pytest

from support.fake_llama import FakeLlama
from support.faults import Table, all_free, ask, log_lines, results, summary, told
from support.gpu_servers import KEY, GpuServer, chat
from support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]

Pool = concurrent.futures.Executor
Start = Callable[..., GpuServer]
Broken = tuple[GpuServer, FakeLlama]
MIB = 2**20


def raw(port: int, *pieces: bytes, timeout_s: float = 10) -> bytes:
    """Send bytes over one connection and return all that comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionError, TimeoutError):
            pass
        return answer


def head(*lines: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    """Return a POST's head with the key."""
    fixed = (b"POST " + path + b" HTTP/1.1", b"host: x", b"authorization: Bearer " + KEY.encode())
    return b"\r\n".join((*fixed, *lines, b"", b""))


# ---- those that leave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("when", ["prefill", "decode"])
def test_a_client_that_leaves(fake: Broken, table: Table, when: str, stream: bool) -> None:
    server, llama = fake
    kind = "a stream" if stream else "a whole answer"
    with table.fault(f"client of {kind} leaves in {when}", server, cause=None) as fault:
        llama.set(prefill_s=30.0 if when == "prefill" else 0.0, token_s=0.02)
        body = httpx.Request("POST", "http://x", json=chat(stream=stream, max_tokens=1000)).content
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(head(b"content-type: application/json", b"content-length: %d" % len(body)) + body)
            wait_until(lambda: llama.seen()["busy"] == 1, 5, "work")
            if stream and when == "decode":
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            fault.blow()
        llama.idle(1)
        fault.note = f"llama-server's slot free in {time.time() - fault.at:.2f} s"
    llama.set(prefill_s=0.0, token_s=0.0)


@pytest.mark.parametrize(("prompt", "when"), [("word " * 1500, "prefill"), ("Tell a story.", "mid-stream")])
def test_a_client_that_leaves_a_real_stream(start: Start, table: Table, prompt: str, when: str) -> None:
    # A STALL_TIMEOUT_S of seconds would have /slots asked so often that llama-server never looks for its client
    # (poller.BUSY_INTERVAL_S), so this has the default one.
    real = start(N_PARALLEL=4, N_CTX=8192, N_BATCH=64, N_UBATCH=64, STALL_TIMEOUT_S=60).ready()
    cancelled = sum("cancel task" in str(line.get("line")) for line in log_lines(real))
    with table.fault(f"client leaves {when}", real, cause=None) as fault:
        with socket.create_connection(("127.0.0.1", real.port), timeout=10) as client:
            body = httpx.Request("POST", "http://x", json=chat(prompt, stream=True, max_tokens=1500)).content
            client.sendall(head(b"content-type: application/json", b"content-length: %d" % len(body)) + body)
            wait_until(lambda: real.status()["busy"] == 1, 5, "work")
            if when == "mid-stream":
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            fault.blow()
        wait_until(
            lambda: sum("cancel task" in str(line.get("line")) for line in log_lines(real)) > cancelled,
            3, "llama-server to give up the work", interval_s=0.02,
        )  # fmt: skip
        fault.note = f"llama-server gave it up in {time.time() - fault.at:.2f} s"
    assert ask(real) == "200"


def test_clients_that_leave_while_they_wait_in_line(fake: Broken, table: Table, pool: Pool) -> None:
    server, llama = fake
    llama.set(token_s=0.05)
    working = [pool.submit(ask, server, max_tokens=40) for _ in range(4)]
    wait_until(lambda: server.status()["busy"] == 4, 5, "work")
    with table.fault("4 clients leave the line", server, cause=None) as fault:
        gone = [pool.submit(ask, server, timeout_s=0.5) for _ in range(4)]
        wait_until(lambda: server.status()["queued"] == 4, 5, "four in line")
        results(gone)
        wait_until(lambda: server.status()["queued"] == 0, 1, "the line to be empty")
        fault.saw = results(working)
    assert fault.saw == ["200"] * 4
    assert llama.seen()["busy"] == 0
    llama.set(token_s=0.0)


# ---- those that are many, or slow -----------------------------------------------------------------------------------


async def crowd(server: GpuServer, count: int) -> list[str]:
    """Ask `count` questions at once."""
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60,
        limits=limits, trust_env=False,
    ) as client:  # fmt: skip

        async def one(number: int) -> str:
            answer = await client.post("/v1/chat/completions", json=chat(stream=bool(number % 2), max_tokens=4))
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            return told(answer)

        return await asyncio.gather(*(one(number) for number in range(count)))


def test_200_clients_on_4_slots(real: GpuServer, table: Table) -> None:
    with table.fault("200 clients at once on 4 slots (MAX_QUEUE 32)", real, cause=None) as fault:
        fault.saw = asyncio.run(crowd(real, 200))
    seen = Counter(fault.saw)
    assert set(seen) == {"200", "200, stream", "429 queue_full"}
    assert seen["200"] + seen["200, stream"] >= 4 + 32


def slow_client(server: GpuServer) -> httpx.Client:
    """A client with a small buffer: of a large one, the kernel says only now and then that some of it was read."""
    transport = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)])
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", transport=transport, headers=headers, timeout=60)


def test_a_slow_reader(fake: Broken, table: Table, full: bool) -> None:
    server, llama = fake
    duration_s = 60 if full else 5
    wrapper = psutil.Process(server.process.pid)
    with table.fault(f"a client reads 320 KiB/s for {duration_s} s of a 256 MiB stream", server, cause=None) as fault:
        llama.set(big_words=64 * 1024)
        before = wrapper.memory_info().rss
        with (
            slow_client(server) as client,
            client.stream("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=4096)) as answer,
        ):
            pieces = answer.iter_raw(16384)
            until = time.monotonic() + duration_s
            most = before
            pause = threading.Event()
            while time.monotonic() < until:
                next(pieces)
                most = max(most, wrapper.memory_info().rss)
                pause.wait(0.05)  # the dawdling itself
            assert ask(server) == "200"  # others are served meanwhile
        fault.saw = ["200, stream"]
        fault.note = f", {(most - before) / MIB:.0f} MiB more memory"
        assert most - before < 32 * MIB
    llama.set(big_words=0)


def test_many_short_requests_leave_nothing_behind(fake: Broken, table: Table, full: bool) -> None:
    server, _llama = fake
    count = 10_000 if full else 1_000
    wrapper = psutil.Process(server.process.pid)
    with table.fault(f"{count:,} short requests".replace(",", " "), server, cause=None) as fault:
        asyncio.run(steady(server, 300))  # warm: pools, caches, buckets
        rss, files = wrapper.memory_info().rss, wrapper.num_fds()
        fault.saw = asyncio.run(steady(server, count))
        more = (wrapper.memory_info().rss - rss) / MIB
        fault.note = f"; {more:+.1f} MiB memory, {wrapper.num_fds() - files:+d} file descriptors"
        assert more < 8
        assert wrapper.num_fds() - files < 8
    assert set(fault.saw) == {"200", "200, stream"}


async def steady(server: GpuServer, count: int) -> list[str]:
    """Ask `count` questions, four at a time."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60,
        trust_env=False,
    ) as client:  # fmt: skip

        async def some(numbers: range) -> list[str]:
            return [
                told(await client.post("/v1/chat/completions", json=chat(stream=bool(n % 2), max_tokens=2)))
                for n in numbers
            ]

        parts = await asyncio.gather(*(some(range(first, count, 4)) for first in range(4)))
    return [seen for part in parts for seen in part]


# ---- those that send what they should not ---------------------------------------------------------------------------

DEEP = 100_000
BODIES = {
    "broken JSON": b'{"messages": [',
    "wrong types": b'{"messages": {"role": 3}, "max_tokens": []}',
    "NUL": b'{"messages": "\x00"}',
    "a NUL in the text": b'{"messages": [{"role": "user", "content": "a\\u0000b"}], "max_tokens": 2}',
    "1 MiB of one line": b'{"messages": [{"role": "user", "content": "' + b"a" * MIB + b'"}], "max_tokens": 2}',
    "deep nesting": b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep nesting, open": b'{"messages": ' + b'{"a":' * DEEP,
    "bad UTF-8": b'{"messages": [{"role": "user", "content": "\xff\xfe"}], "max_tokens": 2}',
    "a lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 2}',
    "a huge number": b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1e400}',
    "a deep grammar": b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2,'
    b' "response_format": {"type": "json_schema", "json_schema": {"schema": '
    + b'{"type": "array", "items": ' * 2_000 + b"{}" + b"}" * 2_000 + b"}}}",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_no_server_should_be_sent(real: GpuServer, table: Table, name: str) -> None:
    with table.fault(f"body: {name}", real, cause=None) as fault:
        answer = real.client.post("/v1/chat/completions", content=BODIES[name])
        fault.saw = [told(answer)]
        assert answer.status_code in (200, 400), answer.text[:300]
        if answer.status_code == 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_too_large(real: GpuServer, table: Table) -> None:
    with table.fault("body too large (33 MiB announced)", real, cause=None) as fault:
        answer = raw(real.port, head(b"content-type: application/json", b"content-length: %d" % (33 * MIB)))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"body_too_large" in answer
        fault.saw = ["413 body_too_large"]


INNER = b"GET /slots HTTP/1.1\r\nhost: x\r\n\r\n"
SMUGGLED = {
    "content-length and transfer-encoding": head(b"content-length: 4", b"transfer-encoding: chunked")
    + b"0\r\n\r\n"
    + INNER,
    "two content-lengths": head(b"content-length: 2", b"content-length: 40") + b"{}" + INNER,
    "a list of content-lengths": head(b"content-length: 2, 40") + b"{}" + INNER,
    "a negative content-length": head(b"content-length: -1") + INNER,
    "a plus before content-length": head(b"content-length: +2") + b"{}" + INNER,
    "transfer-encoding xchunked": head(b"transfer-encoding: xchunked") + b"0\r\n\r\n" + INNER,
    "transfer-encoding behind a tab": head(b"content-length: 2", b"transfer-encoding:\tchunked") + b"0\r\n\r\n" + INNER,
    "transfer-encoding twice": head(b"transfer-encoding: chunked", b"transfer-encoding: identity")
    + b"0\r\n\r\n"
    + INNER,
    "a blank before the colon": head(b"content-length : 2") + b"{}" + INNER,
    "a folded header": head(b"x-a: b\r\n content-length: 99") + INNER,
    "a bare newline in a header": head(b"x-a: b\ncontent-length: 2") + b"{}" + INNER,
    "a NUL in a header": head(b"x-a: b\x00c", b"content-length: 2") + b"{}" + INNER,
    "a chunk size too large": head(b"transfer-encoding: chunked") + b"ffffffffffffffffff\r\n" + INNER,
    "a newline in x-request-id": head(b"x-request-id: a\r\rx-b: c", b"content-length: 2") + b"{}" + INNER,
}  # fmt: skip


def test_smuggled_headers(fake: Broken, table: Table) -> None:
    """A second request hidden in the first is refused, or taken for what it is: one to the wrapper, without a key."""
    server, llama = fake
    taken = llama.seen()["taken"]
    seen = []
    with table.fault(f"header smuggling, {len(SMUGGLED)} ways", server, cause=None) as fault:
        for name, request in SMUGGLED.items():
            answer = raw(server.port, request)
            assert answer.startswith(b"HTTP/1.1 4"), f"{name}: {answer[:200]!r}"
            assert b"is_processing" not in answer, f"{name} reached llama-server's /slots"
            statuses = {line[9:12].decode() for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")}
            assert statuses <= {"400", "401", "413"}, f"{name}: {statuses}"
            seen.append(answer[9:12].decode())
        fault.saw = seen
    assert llama.seen()["taken"] == taken
    assert ask(server) == "200"
    all_free(server)
    assert summary(seen)
