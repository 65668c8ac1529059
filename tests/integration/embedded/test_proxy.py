"""LiteLLM itself, started the way the farm starts it: keys work, and nothing stays when it ends."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.embedded import install_engine
from support.ports import free_port
from support.postgres import Postgres, running_postgres
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(250)]

MASTER_KEY = "sk-b1946ac92492d2347c6235b4d2611184"
READY_TIMEOUT_S = 180.0

CONFIG = """
model_list:
  - model_name: chat
    litellm_params: {model: hosted_vllm/nothing, api_base: "http://127.0.0.1:9/v1", api_key: none}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    install_engine()
    with running_postgres(tmp_path_factory.mktemp("proxy")) as postgres:
        yield postgres


def environment(server: Postgres) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": server.url,
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_SALT_KEY": "sk-5a105e8b9d40e1329780d62ea2265d8a",
        "UI_USERNAME": "admin",
        "UI_PASSWORD": "a-password-for-tests",
    }


def proxy_command(config: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "litellm_embedded", "proxy", "--config", str(config), "--port", str(port)]


@dataclass
class Proxy:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def call(self, path: str, key: str = MASTER_KEY, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(
                f"LiteLLM exited with {self.process.returncode}: {self.log.read_text(encoding='utf-8')[-3000:]}"
            )
        status, body = self.call("/health/readiness")
        return status == 200 and body["db"] == "connected"

    def family(self) -> list[psutil.Process]:
        """LiteLLM and what it started: the Prisma engine."""
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]


def start(server: Postgres, directory: Path) -> Proxy:
    config = directory / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    port = free_port()
    log = directory / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            proxy_command(config, port), env=environment(server), cwd=directory, stdout=output, stderr=subprocess.STDOUT
        )
    return Proxy(process, port, log)


def end(proxy: Proxy, family: list[psutil.Process]) -> None:
    proxy.process.kill()
    proxy.process.wait(20)
    for process in family[1:]:
        if process.is_running():
            process.kill()


def test_keys_are_made_used_and_refused_and_nothing_stays_when_it_ends(server: Postgres, tmp_path: Path) -> None:
    proxy = start(server, tmp_path)
    family: list[psutil.Process] = []
    try:
        wait_until(proxy.is_ready, READY_TIMEOUT_S, "LiteLLM to be ready", interval_s=0.2)
        family = proxy.family()
        engines = [process for process in family if any("query-engine" in word for word in process.cmdline())]
        assert len(engines) == 1
        assert family[0].pid == proxy.process.pid

        status, made = proxy.call("/key/generate", body={"models": ["chat"], "key_alias": "of-a-test"})
        assert status == 200, made
        status, models = proxy.call("/v1/models", key=made["key"])
        assert (status, [model["id"] for model in models["data"]]) == (200, ["chat"])
        assert proxy.call("/v1/models", key="sk-not-a-key")[0] == 401
        status, info = proxy.call(f"/key/info?key={made['key']}")
        assert (status, info["info"]["key_alias"]) == (200, "of-a-test")

        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.wait(30)
        _, alive = psutil.wait_procs(family[1:], timeout=20)
        assert alive == []
    finally:
        end(proxy, family)


def test_after_kill_9_its_engine_goes_too_and_the_next_start_finds_the_keys(server: Postgres, tmp_path: Path) -> None:
    proxy = start(server, tmp_path)
    family: list[psutil.Process] = []
    try:
        wait_until(proxy.is_ready, READY_TIMEOUT_S, "LiteLLM to be ready", interval_s=0.2)
        family = proxy.family()
        assert len(family) > 1
        assert proxy.call("/key/list?key_alias=of-a-test")[1]["total_count"] == 1
        proxy.process.kill()
        proxy.process.wait(20)
        _, alive = psutil.wait_procs(family[1:], timeout=20)
        assert alive == []
    finally:
        end(proxy, family)


def refused(command: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_every_missing_setting_is_named(server: Postgres, tmp_path: Path) -> None:
    lacking = {
        name: value for name, value in environment(server).items() if not name.startswith(("UI_", "LITELLM_SALT"))
    }
    line = refused(proxy_command(tmp_path / "config.yaml", free_port()), lacking)
    assert "LITELLM_SALT_KEY, UI_USERNAME, UI_PASSWORD" in line


def test_a_missing_config_is_named(server: Postgres, tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in refused(
        proxy_command(tmp_path / "none.yaml", free_port()), environment(server)
    )


def test_a_taken_port_is_named(server: Postgres, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    line = refused(proxy_command(tmp_path / "config.yaml", server.port), environment(server))
    assert f"port {server.port}" in line
