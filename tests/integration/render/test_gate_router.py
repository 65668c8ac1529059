"""LiteLLM's router, given the rendered settings and servers that answer: what a client gets from them."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.render import render
from support.random_farms import farm_of

FARM = """
hosts: {{box: {{}}}}
models:
  llama: {{source: {{hub: o/r, file: m.gguf}}, aliases: [chat], limits: {{{limits}}}}}
  spare: {{source: {{hub: o/r, file: s.gguf}}}}
servers:
  - {{model: llama, host: box, count: 2, ports: [{ports[0]}, {ports[1]}]}}
  - {{model: spare, host: box, ports: {ports[2]}}}
proxy: {{fallbacks: {{{fallbacks}}}}}
"""
pytestmark = pytest.mark.integration

ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
}  # fmt: skip
MESSAGES = [{"role": "user", "content": "?"}]


class Servers:
    """Three servers that answer chats and count them."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) for _ in range(3)]
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in self._servers]
        for thread in self._threads:
            thread.start()

    @property
    def ports(self) -> list[int]:
        return [server.server_port for server in self._servers]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(10)

    def count(self, port: int) -> None:
        with self._lock:
            self.asked[port] += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        servers = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                servers.count(self.server.server_address[1])  # type: ignore[misc]
                body = json.dumps(ANSWER).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def servers() -> Iterator[Servers]:
    running = Servers()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _no_callbacks_left() -> Iterator[None]:
    import litellm

    before = list(litellm.callbacks)
    yield
    litellm.callbacks[:] = before


def router_of(servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch, limits: str, fallbacks: str = "") -> Any:
    from litellm.router_utils.pre_call_checks import model_rate_limit_check

    import litellm

    now = datetime.now(UTC)  # stands still: a minute that ends during a test would give each server its limit again
    for module in (litellm.router, model_rate_limit_check):
        monkeypatch.setattr(module, "get_utc_datetime", lambda: now)
    monkeypatch.setenv("GPU_SERVER_KEY", "key")
    farm = farm_of(FARM.format(ports=servers.ports, limits=limits, fallbacks=fallbacks), folder)
    (text,) = [file.text for file in render(farm) if file.path.name == "config.yaml"]
    config = yaml.safe_load(text)
    return litellm.Router(model_list=config["model_list"], **config["router_settings"])


async def outcomes(router: Any, model: str, requests: int) -> Counter[str]:
    asked = (router.acompletion(model=model, messages=MESSAGES) for _ in range(requests))
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
    return Counter("answered" if not isinstance(answer, Exception) else str(answer) for answer in answers)


async def test_requests_by_the_minute_are_limited_for_each_server_and_none_is_refused_early(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = router_of(servers, tmp_path, monkeypatch, "rpm: 3")
    got = await outcomes(router, "chat", 10)
    assert got["answered"] == 6  # by the alias too; a limit counts for a server, not for a name
    assert all("No deployments available" in said for said in got if said != "answered")  # LiteLLM's proxy: 429
    assert [servers.asked[port] for port in servers.ports] == [3, 3, 0]
    assert (await outcomes(router, "llama", 1))["answered"] == 0


async def test_over_the_limit_an_alias_falls_back_as_its_model_does(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = router_of(servers, tmp_path, monkeypatch, "rpm: 1", "llama: [spare]")
    assert await outcomes(router, "chat", 4) == {"answered": 4}
    assert [servers.asked[port] for port in servers.ports] == [1, 1, 2]


async def test_a_small_limit_of_tokens_does_not_limit_requests_at_a_time(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = router_of(servers, tmp_path, monkeypatch, "tpm: 100")
    assert await outcomes(router, "chat", 8) == {"answered": 8}


async def test_a_key_for_an_alias_may_use_the_alias_and_one_for_the_model_both(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litellm.proxy.auth.auth_checks import _can_object_call_model

    router = router_of(servers, tmp_path, monkeypatch, "rpm: 3")

    def may(model: str, models: list[str]) -> bool:
        try:
            return bool(_can_object_call_model(model, router, models))
        except Exception:
            return False

    assert may("chat", ["chat"])
    assert not may("llama", ["chat"])
    assert may("llama", ["llama"])
    assert may("chat", ["llama"])
    assert not may("spare", ["chat", "llama"])
