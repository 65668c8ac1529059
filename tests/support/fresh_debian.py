"""A Debian with nothing on it, in a container, in which a reader follows a document.

Two things are not as on a machine of its own. The engine is the test's, since no init would start another; /srv is the
engine's, so that a path means the same to both. Packages come from where this machine has them from.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.docker_host import CHECKOUT, COMPOSE, DockerHost
from support.guide import Step, read, script

NAME = "fresh-debian"
HOME = "/srv/guide"
CERTIFICATES = "/run/certificates.pem"
NO_INIT = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d"


class FreshDebian:
    """The container, and a shell in it."""

    def __init__(self, host: DockerHost, folder: Path) -> None:
        self._host = host
        self._folder = folder

    def make(self, image: str) -> None:
        """Make the container, with nothing in it that an earlier reader left."""
        self.remove()
        mounts = {"/srv": "/srv", str(self._folder): "/run/engine", str(CHECKOUT): "/checkout:ro"}
        settings = {"DOCKER_HOST": "unix:///run/engine/docker.sock"}
        certificates = os.environ.get("SSL_CERT_FILE", "")
        if Path(certificates).is_file():
            mounts[certificates] = f"{CERTIFICATES}:ro"
            settings |= {"SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES}
        if Path("/etc/pip.conf").is_file():
            mounts["/etc/pip.conf"] = "/etc/pip.conf:ro"
        uv = CHECKOUT / ".tools" / "bin" / "uv"
        cache = subprocess.run([uv, "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
        if Path(cache).is_dir():
            mounts[cache] = "/root/.cache/uv"
        given = [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")]
        given += [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
        self._host.docker(
            "run", "--detach", "--init", "--name", NAME, "--network", "host", *given, image, "sleep", "1d"
        )
        self._host.docker("exec", NAME, "sh", "-c", f"mkdir -p {HOME} && {NO_INIT}")

    def start(self) -> None:
        """Start it again, after the engine was stopped: in the network that there is now."""
        self._host.docker("start", NAME)

    def add_compose(self) -> None:
        """Install Compose v2, which Debian does not have."""
        plugins = "/usr/local/lib/docker/cli-plugins"
        self._host.docker("exec", NAME, "mkdir", "-p", plugins)
        self._host.docker("cp", "--follow-link", COMPOSE, f"{NAME}:{plugins}/docker-compose")

    def follow(
        self, lines: Sequence[str], instead: Mapping[str, str] | None = None, timeout_s: float = 400
    ) -> list[Step]:
        """Run the lines, in the shell that was left; each with its exit code and output."""
        text = script(lines, HOME, instead or {}, state="/root/.guide-state")
        done = self._host.docker("exec", NAME, "bash", "-c", text, check=False, timeout_s=timeout_s)
        return read(lines, done.stdout)

    def remove(self) -> None:
        """Remove the container, if there is one."""
        self._host.docker("rm", "--force", NAME, check=False)


def keep(steps: Sequence[Step], file: Path) -> None:
    """Keep what was done before the network of the farm was made."""
    file.write_text(json.dumps([[step.line, step.code, step.output] for step in steps]))


def kept(file: Path) -> list[Step]:
    """Return what `keep` kept."""
    return [Step(*step) for step in json.loads(file.read_text())]
