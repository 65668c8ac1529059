"""The rendered farm of two hosts, in containers: its projects, its gate, and load on it."""

import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from corral.models.preparation import prepare
from support.compose_images import RENDERED
from support.docker_host import CHECKOUT, DockerHost
from support.waiting import wait_until

GPU_BOX = RENDERED / "hosts" / "gpu-box" / "gpu-server" / "compose.yaml"
GATE = RENDERED / "litellm" / "compose.yaml"
ON_CPU = CHECKOUT / "tests" / "compose" / "cpu"
MODELS = Path("/srv/corral/models")  # scripts/test-compose has mounted it
GATE_URL = "http://192.168.1.10:4000"
MASTER_KEY = "sk-master-of-the-compose-test"
SECRETS: Mapping[str, str] = {
    "GPU_SERVER_KEY": "key-of-the-gpu-servers",
    "LITELLM_MASTER_KEY": MASTER_KEY,
    "LITELLM_SALT_KEY": "salt-of-the-compose-test",
    "UI_USERNAME": "admin",
    "UI_PASSWORD": "password-of-the-ui",
    "POSTGRES_PASSWORD": "passwordofthedatabase",
    "OPENAI_API_KEY": "no-key-of-openai",
    "CORRAL_HOOKS": str(CHECKOUT / "litellm" / "hooks"),
    "CORRAL_SCRIPTS": str(CHECKOUT / "litellm" / "scripts"),
}
SERVERS: Mapping[str, str] = {
    "qwen-1": "http://192.168.1.20:8080",
    "qwen-2": "http://192.168.1.20:8081",
    "nomic-embed-1": "http://192.168.1.20:8090",
}
GATE_SERVICES = ("postgres", "litellm", "backup")
ANSWER_S = 60.0


@dataclass(frozen=True)
class Project:
    """One compose project: the rendered file, with or without the override for the CPU."""

    host: DockerHost
    files: tuple[Path, ...]
    name: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: SECRETS)

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 240, **more: str) -> Any:
        """Run `docker compose` on it."""
        named = ("--project-name", self.name) if self.name else ()
        return self.host.compose(
            self.files, *named, *arguments, check=check, timeout_s=timeout_s, **{**self.environment, **more}
        )

    def container(self, service: str) -> str:
        """Return the id of the container of a service, running or not."""
        found = self.compose("ps", "--all", "--quiet", service).stdout.split()
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of the container of a service."""
        return self.host.inspect(self.container(service))

    def is_healthy(self, service: str) -> bool:
        """Whether its healthcheck says so."""
        state = self.inspect(service)["State"]
        return state["Status"] == "running" and state["Health"]["Status"] == "healthy"

    def wait_until_healthy(self, service: str, timeout_s: float = 60) -> None:
        """Wait for one container."""
        wait_until(lambda: self.is_healthy(service), timeout_s, f"{service} to be healthy", 0.2)

    def logs(self, service: str) -> str:
        """Return all that a service has written."""
        done = self.compose("logs", "--no-log-prefix", "--no-color", service)
        return str(done.stdout + done.stderr)

    def llama_server(self, service: str) -> psutil.Process:
        """Return the llama-server in a service's container."""
        return next(p for p in self._processes(service) if "gpu_server.embedded" in p.cmdline())

    def wrapper(self, service: str) -> psutil.Process:
        """Return the gpu-server itself."""
        return next(
            p for p in self._processes(service) if any(word.endswith("bin/gpu-server") for word in p.cmdline()[:2])
        )

    def _processes(self, service: str) -> list[psutil.Process]:
        first = psutil.Process(self.inspect(service)["State"]["Pid"])
        return first.children(recursive=True)


def put_models() -> None:
    """Lay small models where the farm's are looked for, under the farm's names."""
    paths = prepare(MODELS.parent / "packaged", progress=lambda _line: None)
    MODELS.mkdir(parents=True, exist_ok=True)
    for name, served in (("qwen", "chat"), ("nomic-embed", "embed")):
        target = MODELS / f"{name}.gguf"
        shutil.copyfile(paths[served], target)
        target.chmod(0o644)


class Gate:
    """What a client asks of the gate."""

    def __init__(self, key: str = MASTER_KEY) -> None:
        self.key = key

    def make_key(self, **settings: object) -> str:
        """Return a fresh key."""
        return str(self.post("/key/generate", {"models": [], **settings}).raise_for_status().json()["key"])

    def list_keys(self) -> list[str]:
        """Return the SHA-256 of every key in the database."""
        return list(self.get("/key/list", size="100").raise_for_status().json()["keys"])

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Ask once, no retry."""
        with httpx.Client(base_url=GATE_URL, timeout=ANSWER_S) as client:
            return client.post(path, json=body, headers={"authorization": f"Bearer {self.key}"})

    def get(self, path: str, **parameters: str) -> httpx.Response:
        """Ask once, without a body."""
        with httpx.Client(base_url=GATE_URL, timeout=ANSWER_S) as client:
            return client.get(path, params=parameters, headers={"authorization": f"Bearer {self.key}"})

    def chat(self, text: str = "Name a colour.", tokens: int = 8) -> httpx.Response:
        """Ask for a short answer."""
        return self.post("/v1/chat/completions", chat_body(text, tokens))

    @contextmanager
    def stream(self, text: str, tokens: int) -> Iterator[Iterator[dict[str, Any]]]:
        """Give the events of a streamed answer as they come; the last one is `{"done": True}`, or there is none."""
        body = {**chat_body(text, tokens), "stream": True}
        headers = {"authorization": f"Bearer {self.key}"}
        with (
            httpx.Client(base_url=GATE_URL, timeout=ANSWER_S) as client,
            client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response,
        ):
            assert response.status_code == 200, response.read()
            yield events(response.iter_lines())


def chat_body(text: str, tokens: int) -> dict[str, Any]:
    """Return a request for an answer of just so many tokens."""
    return {"model": "chat", "max_tokens": tokens, "ignore_eos": True, "messages": [{"role": "user", "content": text}]}


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read server-sent events."""
    for line in lines:
        if line == "data: [DONE]":
            yield {"done": True}
        elif line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


class Load:
    """Clients that ask the gate one thing after the other; `failures` is what they did not get an answer to."""

    def __init__(self, gate: Gate, clients: int = 2) -> None:
        self._gate = gate
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answers >= len(self._threads), ANSWER_S, "the first answers under load")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, answers: int = 4) -> None:
        """Wait until so many further requests were answered."""
        enough = self.answers + answers
        wait_until(lambda: self.answers >= enough, ANSWER_S, f"{answers} more answers; failures: {self.failures}")

    def _ask(self, number: int) -> None:
        asked = 0
        while not self._end.is_set():
            asked += 1
            try:
                response = self._gate.chat(f"Client {number} asks for the {asked}th time: name a colour.")
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if response.status_code == 200 and response.json()["choices"][0]["message"]["content"]:
                self.answers += 1
            else:
                self.failures.append(f"{response.status_code} {response.text[:300]}")


def lost(load: Load) -> str:
    """Say how many requests had no answer."""
    return f"{len(load.failures)} of {load.answers + len(load.failures)} requests lost"


def server_health(service: str) -> int:
    """Return the status of a server's own /health, as seen on its host."""
    return httpx.get(f"{SERVERS[service]}/health", timeout=2).status_code


def server_says(service: str) -> dict[str, Any]:
    """Return what a server says of itself on its /health; empty where it does not answer."""
    try:
        said: dict[str, Any] = httpx.get(f"{SERVERS[service]}/health", timeout=2).json()
    except httpx.HTTPError:
        return {}
    return said


@dataclass
class ContainerFarm:
    """Both projects, a client with a key of its own, and how long all of it took to come up, in seconds."""

    host: DockerHost
    gpu_box: Project
    gate_host: Project
    gate: Gate
    up_s: float

    def wait_until_healthy(self, timeout_s: float = 120) -> None:
        """Wait for every container."""
        for project, service in self.services():
            project.wait_until_healthy(service, timeout_s)

    def services(self) -> list[tuple[Project, str]]:
        """Return every service with its project."""
        return [*((self.gpu_box, name) for name in SERVERS), *((self.gate_host, name) for name in GATE_SERVICES)]


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Give a list that holds the seconds it took, once it is over."""
    taken: list[float] = []
    begun = time.monotonic()
    yield taken
    taken.append(time.monotonic() - begun)
