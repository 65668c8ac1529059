"""Docker engines and Compose projects, through the `docker` command: what runs, what is wanted, service by service."""

import ipaddress
import json
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from corral.errors import CorralError
from corral.farm.host import Host

QUICK_S = 60.0
"""For a question to an engine, over ssh too."""
STOPS_S = 960.0
"""For a service to be replaced: the longest drain that a farm file may ask for, and some."""
IMAGES_S = 3600.0
"""For an image to be pulled or built before its server starts."""
LAST_WORDS, LAST_WORDS_WIDTH = 4, 300
"""Lines of a container's log in an error, and characters of each."""
_LABEL = "com.docker.compose"


@dataclass(frozen=True)
class Engine:
    """One Docker engine.

    Args:
        options: what makes `docker` talk to it.
        said: its name to a person.
    """

    options: tuple[str, ...]
    said: str

    @classmethod
    def of_host(cls, name: str, host: Host) -> "Engine":
        """Return a host's engine.

        Raises:
            CorralError: the farm file does not say how it is reached, and it is not this machine's.
        """
        match (host.docker or "").partition(":"):
            case ("ssh", _, _):
                return cls(("--host", str(host.docker)), f"{name} ({host.docker})")
            case ("context", _, context):
                return cls(("--context", context), f"{name} (context {context})")
            case ("local", _, _):
                return cls((), name)
        if _is_here(host.address):
            return cls((), name)
        raise CorralError(
            f"{host.address} is not this machine's address, and the farm file does not say how to reach the Docker "
            f"engine of {name}",
            f"give hosts.{name}.docker, such as ssh://USER@{host.address}, or run this on {name}",
            exit_code=2,
        )

    def check(self) -> None:
        """Ask whether it answers, and knows Compose.

        Raises:
            CorralError: it does not; says which of them is missing.
        """
        if shutil.which("docker") is None:
            raise CorralError("there is no docker command here", "install Docker's client with its Compose plugin")
        if (done := self.ask("version", "--format", "{{.Server.Version}}")).returncode:
            raise CorralError(
                f"the Docker engine of {self.said} does not answer: {_last_line(done)}",
                "check that it runs there, and that `docker` may use it from here",
            )
        if (done := self.ask("compose", "version")).returncode:
            raise CorralError(
                f"docker has no Compose v2 here: {_last_line(done)}", "install Docker's Compose plugin (docker compose)"
            )

    def ask(
        self, *words: str, timeout_s: float = QUICK_S, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker` against it, with `given` on its standard input; its exit code is the caller's to look at.

        Raises:
            CorralError: no answer within `timeout_s`.
        """
        try:
            return subprocess.run(
                ["docker", *self.options, *words], capture_output=True, text=True, timeout=timeout_s, check=False,
                input=given or "",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CorralError(
                f"docker {words[0]} for {self.said} took more than {timeout_s:.0f} s",
                "look at that host, then try again",
            ) from None


@dataclass(frozen=True)
class Container:
    """What runs, or ran last, of a service.

    Args:
        id: the engine's.
        digest: Compose's own, of the configuration that it was made from.
        status: `running`, `exited`, `restarting`, ... as the engine says it.
        health: `healthy`, `unhealthy`, `starting`; empty without a healthcheck.
        restarts: how often the engine started it again.
    """

    id: str
    digest: str
    status: str
    health: str
    restarts: int


@dataclass(frozen=True)
class Wanted:
    """A service of a compose file.

    Args:
        digest: Compose's own, of all that it says.
        image: what it runs.
        built: whether the file says how the image is built.
        optional: under a profile: runs only where somebody started it.
    """

    digest: str
    image: str
    built: bool
    optional: bool


@dataclass(frozen=True)
class Project:
    """A compose file on an engine.

    Args:
        name: as the file says it.
        file: the compose file.
        secrets: the file with its variables.
        engine: where it runs.
    """

    name: str
    file: Path
    secrets: Path
    engine: Engine

    def wanted(self, text: str) -> Mapping[str, Wanted]:
        """Return what the file says of each service, by name, once it holds this text.

        Raises:
            CorralError: Compose refuses it: a secret is missing, say.
        """
        digests, whole = (self._read(text, *words) for words in (("--hash", "*"), ("--format", "json")))
        if failed := next((done for done in (digests, whole) if done.returncode), None):
            raise CorralError(
                f"Compose refuses {self.file}: {_last_line(failed)}", f"its variables are read from {self.secrets}"
            )
        digest_of = dict(line.split() for line in digests.stdout.splitlines() if line)
        return {
            name: Wanted(digest_of[name], service["image"], built="build" in service, optional="profiles" in service)
            for name, service in json.loads(whole.stdout)["services"].items()
        }

    def containers(self) -> Mapping[str, Container]:
        """Return what there is of it, by service: stopped containers too.

        Raises:
            CorralError: the engine does not say.
        """
        ids = self._asked("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={_LABEL}.project={self.name}")
        if not ids.split():
            return {}
        found = json.loads(self._asked("inspect", *ids.split()))
        return {
            each["Config"]["Labels"][f"{_LABEL}.service"]: Container(
                id=each["Id"],
                digest=each["Config"]["Labels"].get(f"{_LABEL}.config-hash", ""),
                status=each["State"]["Status"],
                health=each["State"].get("Health", {}).get("Status", ""),
                restarts=each["RestartCount"],
            )
            for each in found
        }

    def has(self, image: str) -> bool:
        """Return whether an image is there."""
        return self.engine.ask("image", "inspect", image).returncode == 0

    def fetch(self, service: str, wanted: Wanted) -> str | None:
        """Build or pull a service's image, so that replacing it takes only its start; return what went wrong."""
        done = self._compose("build" if wanted.built else "pull", service, timeout_s=IMAGES_S)
        return _last_line(done) if done.returncode else None

    def up(self, service: str, *, recreate: bool = False) -> str | None:
        """Replace or start one service, and no other; return what went wrong. It need not be ready yet.

        The one that runs is stopped by SIGTERM, and has its `stop_grace_period` to finish what it works on.
        """
        anew = ("--force-recreate",) if recreate else ()
        done = self._compose("up", "--detach", "--no-deps", *anew, service, timeout_s=STOPS_S)
        return _last_line(done) if done.returncode else None

    def remove(self, service: str) -> str | None:
        """Stop one service and remove its container; return what went wrong."""
        container = self.containers().get(service)
        if container is None:
            return None
        for words in (("stop", container.id), ("rm", "--force", container.id)):
            if (done := self.engine.ask(*words, timeout_s=STOPS_S)).returncode:
                return _last_line(done)
        return None

    def last_words(self, service: str) -> str:
        """Return the last lines of a service's log, in one."""
        done = self._compose("logs", "--no-log-prefix", "--tail", str(LAST_WORDS), service)
        return " | ".join(line.strip()[:LAST_WORDS_WIDTH] for line in done.stdout.splitlines() if line.strip())

    def _asked(self, *words: str) -> str:
        done = self.engine.ask(*words)
        if done.returncode:
            raise CorralError(
                f"the Docker engine of {self.engine.said} does not tell of its containers: {_last_line(done)}",
                "look at that host, then try again",
            )
        return done.stdout

    def _read(self, text: str, *words: str) -> subprocess.CompletedProcess[str]:
        options = ("--file", "-", "--project-directory", str(self.file.parent), "--env-file", str(self.secrets))
        return self.engine.ask("compose", *options, "--profile", "*", "config", *words, given=text)

    def _compose(self, *words: str, timeout_s: float = QUICK_S) -> subprocess.CompletedProcess[str]:
        files = ("--file", str(self.file), "--env-file", str(self.secrets))
        every = ("--profile", "*") if words[0] == "logs" else ()
        return self.engine.ask("compose", *files, "--ansi", "never", *every, *words, timeout_s=timeout_s)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def _is_here(address: str) -> bool:
    try:
        addresses = {ipaddress.ip_address(address)}
    except ValueError:
        try:
            addresses = {ipaddress.ip_address(found[4][0]) for found in socket.getaddrinfo(address, None)}
        except OSError:
            return False
    if any(each.is_loopback for each in addresses):
        return True
    own = {found.address.partition("%")[0] for links in psutil.net_if_addrs().values() for found in links}
    return any(str(each) in own for each in addresses)
