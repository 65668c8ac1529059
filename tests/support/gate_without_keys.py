"""LiteLLM without a database: the master key alone is good for requests, and nothing is accounted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from support.gpu_servers import KEY
from support.ports import free_port
from support.waiting import wait_until

HOOKS = Path(__file__).parents[2] / "litellm" / "hooks"
MASTER_KEY = "sk-b1946ac92492d2347c6235b4d2611184"
READY_TIMEOUT_S = 240


@contextmanager
def gate_without_keys(folder: Path, config: Mapping[str, Any], workers: int) -> Iterator[str]:
    """Run LiteLLM with a configuration as `corral render` writes it; gives its address. Gone afterwards."""
    document = {**config, "general_settings": dict(config["general_settings"])}
    document["general_settings"].pop("database_url", None)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    port = free_port()
    environment = {
        **os.environ, "PYTHONPATH": str(HOOKS), "LITELLM_MASTER_KEY": MASTER_KEY, "GPU_SERVER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "litellm_embedded.launcher", "--config", str(folder / "config.yaml"),
             "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers), "--telemetry", "False"],
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"LiteLLM ended: {(folder / 'litellm.log').read_text()[-3000:]}")
        return httpx.get(f"{url}/health/liveliness", trust_env=False).status_code == 200

    try:
        wait_until(ready, READY_TIMEOUT_S, "LiteLLM to answer", interval_s=0.2)
        yield url
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        for one in psutil.wait_procs(family, timeout=10)[1]:
            one.kill()
