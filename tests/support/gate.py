"""LiteLLM's proxy as the farm starts it, before fake servers, with a database whose rows a test can read."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import yaml
from psycopg.rows import dict_row

from support.embedded import install_engine
from support.fake_servers import FakeServers
from support.ports import free_port
from support.postgres import Postgres
from support.waiting import wait_until

MASTER_KEY = "sk-b1946ac92492d2347c6235b4d2611184"
PROMPT_PRICE, ANSWER_PRICE = 1e-6, 2e-6
READY_TIMEOUT_S = 180.0
CHECKOUT = Path(__file__).parents[2]
ROWS_AT_ONCE = {"SPEND_LOG_QUEUE_SIZE_THRESHOLD": "1", "SPEND_LOG_QUEUE_POLL_INTERVAL": "0.2"}
"""LiteLLM writes rows every few seconds."""
HOOKS = CHECKOUT / "litellm" / "hooks"
CALLBACKS = ("corral_headers.headers", "corral_body_guard.guard", "corral_retries.retries")


def deployment(model: str, name: str, api_base: str, **parameters: Any) -> dict[str, Any]:
    """One server of a model, as the rendered configuration has it."""
    prices = {"input_cost_per_token": PROMPT_PRICE, "output_cost_per_token": ANSWER_PRICE}
    return {
        "model_name": model,
        "litellm_params": {
            "model": f"hosted_vllm/{model}", "api_base": api_base, "api_key": "os.environ/GPU_SERVER_KEY",
            "max_retries": 0, **prices, **parameters,
        },
        "model_info": {"id": name, **prices},
    }  # fmt: skip


class Gate:
    """A running gate."""

    def __init__(self, port: int, database: Postgres, log: Path, pid: int) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._database = database
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def ask(self, body: Mapping[str, Any], key: str = MASTER_KEY, path: str = "/v1/chat/completions") -> httpx.Response:
        """Send a request and read its answer whole."""
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

    def admin(self, path: str, **body: Any) -> dict[str, Any]:
        """Call one of LiteLLM's management endpoints."""
        answer = self.client.post(path, json=body, headers={"Authorization": f"Bearer {MASTER_KEY}"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def new_key(self, **settings: Any) -> str:
        """Make a key."""
        return str(self.admin("/key/generate", **settings)["key"])

    def rows(self, alias: str) -> list[dict[str, Any]]:
        """The rows of spend of the key with this alias, oldest first."""
        query = """SELECT * FROM "LiteLLM_SpendLogs" WHERE metadata->>'user_api_key_alias' = %s ORDER BY "startTime" """
        with psycopg.connect(self._database.url, row_factory=dict_row) as connection:
            return list(connection.execute(query, (alias,)))

    def rows_when(self, alias: str, count: int, timeout_s: float = 20) -> list[dict[str, Any]]:
        """Wait until there are so many; one more fails the test that looks at them."""
        query = """SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE metadata->>'user_api_key_alias' = %s"""
        with psycopg.connect(self._database.url, autocommit=True) as connection:

            def there() -> bool:
                found = connection.execute(query, (alias,)).fetchone()
                return found is not None and found[0] >= count

            wait_until(there, timeout_s, f"{count} rows of {alias}", 0.2)
        return self.rows(alias)

    def without_row(self, alias: str, names: Collection[str]) -> list[str]:
        """Return which of the answers with these ids have no row yet that belongs to the key with this alias."""
        query = """
            SELECT name FROM unnest(%s::text[]) name WHERE NOT EXISTS (SELECT FROM "LiteLLM_SpendLogs" AS row
            WHERE row.request_id = name AND row.metadata->>'user_api_key_alias' = %s)"""
        with psycopg.connect(self._database.url) as connection:
            return [str(name) for (name,) in connection.execute(query, (list(names), alias))]

    def state(self) -> dict[str, Any]:
        """What LiteLLM counts: see `gate_probe`."""
        return dict(self.client.get("/test/state").json())

    def metrics(self) -> str:
        """LiteLLM's metrics in Prometheus' text."""
        return self.client.get("/metrics/", headers={"Authorization": f"Bearer {MASTER_KEY}"}).text

    def events(self) -> list[dict[str, Any]]:
        """What LiteLLM has logged to callbacks."""
        return list(self.client.get("/test/events").json())

    def wait_idle(self, timeout_s: float = 15) -> None:
        """Wait until no server counts as busy and no key as using anything."""

        def idle() -> bool:
            state = self.state()
            if state["busy"]:
                raise AssertionError(state)
            return True

        wait_until(idle, timeout_s, "the least-busy counters to be zero", 0.1)


@contextmanager
def running_gate(
    folder: Path, database: Postgres, config: Mapping[str, Any], environment: Mapping[str, str] = ROWS_AT_ONCE
) -> Iterator[Gate]:
    """Start a gate with this configuration; it is gone afterwards, with all that it started."""
    install_engine()
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    port, log = free_port(), folder / "gate.log"
    command = [sys.executable, "-m", "litellm_embedded", "proxy", "--config", "config.yaml", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(HOOKS), str(CHECKOUT / "tests" / "support")]),
                "DATABASE_URL": database.url,
                "LITELLM_MASTER_KEY": MASTER_KEY,
                "LITELLM_SALT_KEY": "sk-5a105e8b9d40e1329780d62ea2265d8a",
                "UI_USERNAME": "admin",
                "UI_PASSWORD": "a-password-for-tests",
                "GPU_SERVER_KEY": "key-of-the-servers",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    gate = Gate(port, database, log, process.pid)
    family: list[psutil.Process] = []
    try:
        wait_until(lambda: _ready(gate, process), READY_TIMEOUT_S, "the gate to be ready", 0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        yield gate
    finally:
        gate.client.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        for child in psutil.wait_procs(family, timeout=10)[1]:
            child.kill()


def _ready(gate: Gate, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        tail = gate.log.read_text(encoding="utf-8")[-3000:]
        raise SystemExit(f"LiteLLM exited with {process.returncode}: {tail}")
    answer = gate.client.get("/health/readiness")
    return bool(answer.status_code == 200 and answer.json()["db"] == "connected")


def config_for(servers: FakeServers, models: Mapping[str, list[tuple[str, str]]], **router: Any) -> dict[str, Any]:
    """A configuration as `corral render` writes it, for models given as lists of (id, handler or URL)."""
    deployments = [
        deployment(model, name, where if "//" in where else servers.url(where))
        for model, those in models.items()
        for name, where in those
    ]
    return {
        "model_list": deployments,
        "router_settings": {
            "routing_strategy": "least-busy", "num_retries": 2, "retry_after": 0, "allowed_fails": 1,
            "cooldown_time": 1.5, **router,
        },
        "litellm_settings": {"callbacks": [*CALLBACKS], "telemetry": False, "request_timeout": 600},
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY", "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 5, "proxy_batch_write_at": 1,
        },
    }  # fmt: skip


def events_of(text: str) -> list[dict[str, Any]]:
    """The JSON of a stream's events, without `[DONE]`."""
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    return [json.loads(line) for line in lines if line != "[DONE]"]
