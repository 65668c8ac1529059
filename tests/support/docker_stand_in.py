#!/usr/bin/env python3
"""Stands in for the `docker` command: the real Compose reads the files, containers are processes that answer.

Run by the tests under the name `docker`. `YARD` names a folder: one folder an engine in it (`local`, or what --host and
--context say), `containers.json` in each; `commands.log` beside them. What goes wrong, the compose file asks for:
N_BATCH 13: never ready, and says so; N_BATCH 14: ends at once; image `nowhere/...`: cannot be pulled.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LABEL = "com.docker.compose"
FAILS, ENDS = "13", "14"


def main(words: list[str]) -> int:
    """Do what `docker` would."""
    yard = Path(os.environ["YARD"])
    with (yard / "commands.log").open("a") as log:
        log.write(json.dumps(words) + "\n")
    where = "local"
    while words[0] in ("--host", "--context"):
        where, words = words[1].replace("/", "_"), words[2:]
    if where.endswith("silent"):
        sys.exit("Cannot connect to the Docker daemon")
    folder = yard / where
    folder.mkdir(exist_ok=True)
    return Engine(folder).do(words)


class Engine:
    """One engine's containers, by id."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "containers.json"
        self.containers: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def do(self, words: list[str]) -> int:
        match words:
            case ["compose", *rest]:
                return self.compose(rest)
            case ["ps", *_, filtered]:
                project = filtered.removeprefix(f"label={LABEL}.project=")
                print("\n".join(key for key, each in self.containers.items() if each["project"] == project))
            case ["image", "inspect", image]:
                return int(image.startswith("nowhere/"))
            case ["inspect", *ids]:
                print(json.dumps([self.described(each) for each in ids]))
            case ["stop", which] | ["rm", "--force", which]:
                self.end(which, forget=words[0] == "rm")
        return 0

    def compose(self, words: list[str]) -> int:
        options, rest = [], list(words)
        while rest and rest[0].startswith("--"):
            options += [rest.pop(0), rest.pop(0)]
        if not rest or rest[0] in ("config", "version"):
            return subprocess.run([os.environ["REAL_COMPOSE"], *words], check=False).returncode
        whole = json.loads(
            subprocess.check_output(
                [os.environ["REAL_COMPOSE"], *options, "--profile", "*", "config", "--format", "json"]
            )
        )
        service = rest[-1]
        if rest[0] == "up":
            line = subprocess.check_output(
                [os.environ["REAL_COMPOSE"], *options, "--profile", "*", "config", "--hash", service], text=True
            )
            self.up(
                whole["name"], service, whole["services"][service], line.split()[1], anew="--force-recreate" in rest
            )
        elif rest[0] == "logs":
            print(f"log of {service}\nCUDA error: out of memory")
        elif rest[0] == "pull":
            sys.exit(f"manifest for {whole['services'][service]['image']} not found")
        return 0

    def up(self, project: str, service: str, asked: dict[str, Any], digest: str, *, anew: bool) -> None:
        for key, each in list(self.containers.items()):
            if each["project"] == project and each["service"] == service:
                if each["digest"] == digest and not anew and self.runs(each):
                    return
                self.end(key, forget=True)
        key = f"{project}-{service}-{time.time_ns()}"
        known = {"project": project, "service": service, "digest": digest, "pid": 0}
        if "PORT" in asked["environment"]:
            known["pid"] = subprocess.Popen(
                [sys.executable, __file__, "serve"], env={**os.environ, **asked["environment"]},
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).pid  # fmt: skip
        self.containers[key] = known
        self.write()

    def described(self, key: str) -> dict[str, Any]:
        each = self.containers[key]
        labels = {f"{LABEL}.service": each["service"], f"{LABEL}.config-hash": each["digest"]}
        state: dict[str, Any] = {"Status": "running" if self.runs(each) else "exited"}
        if not each["pid"]:
            state["Health"] = {"Status": "healthy"}
        return {"Id": key, "Config": {"Labels": labels}, "State": state, "RestartCount": 0}

    def runs(self, each: dict[str, Any]) -> bool:
        stat = Path(f"/proc/{each['pid']}/stat")
        return not each["pid"] or (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z")

    def end(self, key: str, *, forget: bool) -> None:
        if self.containers[key]["pid"] and self.runs(self.containers[key]):
            os.kill(self.containers[key]["pid"], signal.SIGKILL)
            while self.runs(self.containers[key]):
                time.sleep(0.01)
        if forget:
            del self.containers[key]
        self.write()

    def write(self) -> None:
        self._file.write_text(json.dumps(self.containers))


class GpuServer(http.server.BaseHTTPRequestHandler):
    """The little of a gpu-server that `corral apply` asks for."""

    def do_GET(self) -> None:
        failed = os.environ["N_BATCH"] == FAILS
        self.answer(503 if failed else 200, {"state": "failed" if failed else "ready"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        right = self.headers["authorization"] == f"Bearer {os.environ['API_KEY']}"
        self.answer(200 if right else 401, {})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def serve() -> None:
    """Answer as the gpu-server whose settings are in the environment."""
    if os.environ["N_BATCH"] == ENDS:
        sys.exit(1)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), GpuServer).serve_forever()


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["serve"] else main(sys.argv[1:]))
