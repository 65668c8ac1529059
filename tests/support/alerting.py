"""Alertmanager under test: the routes that are shipped, with times divided, and a webhook that keeps what it gets."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from support.serving import serving

SHIPPED = Path(__file__).parents[2] / "monitoring"
FASTER = 60
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Webhook(ThreadingHTTPServer):
    """Keeps the alerts that are sent to it, with the moment they came at."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        self.messages = 0
        self.refusing = False
        self.refused = 0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if webhook.refusing:
                    webhook.refused += 1
                    self.send_response(500)
                    self.end_headers()
                    return
                webhook.messages += 1
                webhook.came += [(time.monotonic(), alert) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def first(self, name: str, status: str, after: float = 0) -> float | None:
        """Return when an alert first came in a status, after a moment of the monotonic clock."""
        for at, alert in self.came:
            if at > after and (alert["labels"]["alertname"], alert["status"]) == (name, status):
                return at
        return None


@contextmanager
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    with serving(server):
        yield server


@contextmanager
def running(log: Path, *command: str | Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Give a program that runs, with more in its environment."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def faster(text: str, by: int = FASTER) -> str:
    """Divide the times of rules and routes, none below a second; a range keeps three scrapes."""

    def divided(found: re.Match[str]) -> str:
        least = 1 if found[1].endswith(": ") else 4
        return f"{found[1]}{max(least, round(int(found[2]) * _SECONDS[found[3]] / by))}s{found[4]}"

    text = re.sub(r"(\[|offset )(\d+)([smhd])(\]|\))", divided, text)
    return re.sub(
        r"(for: |group_wait: |group_interval: |repeat_interval: )(\d+)([smhd])($)", divided, text, flags=re.MULTILINE
    )


def listening(port: int, path: str = "/-/ready") -> bool:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200


def shipped_routes(folder: Path, people: str, by: int = FASTER, **receivers: str) -> Path:
    """Write Alertmanager's configuration as it is shipped, and return it.

    Args:
        folder: where to.
        people: the URL of all webhooks.
        by: what times are divided by.
        receivers: other variables of configure.sh.
    """
    environment = {"ALERT_WEBHOOK_URL": people, "ALERT_HEARTBEAT_URL": people, "PATH": "/usr/bin:/bin", **receivers}
    subprocess.run(["sh", SHIPPED / "alertmanager" / "configure.sh", folder], env=environment, check=True, timeout=10)
    file = folder / "alertmanager.yml"
    file.write_text(faster(file.read_text(), by))
    return file
