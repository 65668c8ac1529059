"""Programs and their versions: Corral, LiteLLM, Python, llama-server, Docker, Compose, NVIDIA's container toolkit."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from corral.doctor.findings import Finding, Wanted

TIMEOUT_S = 15.0
OLDEST_COMPOSE = (2, 30)  # the first with `gpus:`
_PYTHONS = ((3, 11), (3, 13))

Run = Callable[[Sequence[str]], str]
"""Runs a program and returns what it printed; ToolError if that cannot be had."""


class ToolError(Exception):
    """A program is missing, fails, or hangs; the text says which."""


class MissingError(ToolError):
    """The program is not there."""


def run(argv: Sequence[str]) -> str:
    """Run a program with a deadline and return its output, stdout before stderr.

    Raises:
        ToolError: it is missing, ends with an error, or does not end.
    """
    if shutil.which(argv[0]) is None:
        raise MissingError(f"{argv[0]} is not installed")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError(f"{argv[0]} does not answer within {TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be run ({error.strerror})") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no word"]
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ToolError(f"{' '.join(argv[:2])} ended with {ended}: {last[0]}")
    return done.stdout + done.stderr


def check_tools(wanted: Wanted, run: Run = run) -> list[Finding]:
    """Look at everything that has a version."""
    findings = [check_python(), check_corral(), check_litellm(), check_llama_server(wanted, run)]
    if wanted.containers:
        docker = check_docker(run)
        findings += [docker, check_compose(run)]
        if wanted.gpus:
            findings += check_container_toolkit(run, docker_answers=docker.level == "ok")
    return findings


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Return whether this Python is one that Corral is tested with."""
    said = "Python " + ".".join(map(str, version))
    oldest, newest = _PYTHONS
    if oldest <= version[:2] <= newest:
        return Finding("versions", "ok", said)
    return Finding("versions", "error", said, "Corral needs Python 3.11 to 3.13: make setup PYTHON=python3.12")


def check_corral() -> Finding:
    """Return Corral's own version."""
    version = _installed("corral")
    if version is None:
        return Finding("versions", "warning", "Corral runs, but is not installed", "make setup")
    return Finding("versions", "ok", f"Corral {version}")


def check_litellm(version: str | None = None) -> Finding:
    """Return LiteLLM's version; one release was compromised."""
    version = version or _installed("litellm")
    if version is None:
        return Finding("versions", "note", "LiteLLM is not installed here: the gate runs elsewhere, or in a container")
    if version.startswith("1.107."):
        mend = "make setup installs the locked one; then change every key and password that this machine has seen"
        return Finding("versions", "error", f"LiteLLM {version}: 1.107.0 was compromised", mend)
    return Finding("versions", "ok", f"LiteLLM {version}")


def check_llama_server(wanted: Wanted, run: Run) -> Finding:
    """Return the version of the llama-server binary."""
    program = str(wanted.llama_server or "llama-server")
    try:
        said = run([program, "--version"])
    except MissingError:
        if wanted.llama_server is None:
            return Finding("versions", "note", "no llama-server on PATH: the packaged one, or a container's, serves")
        return Finding("versions", "error", f"{program} is not there", "correct LLAMA_SERVER, or unset it")
    except ToolError as error:
        return Finding("versions", "error", str(error), "build it for this CPU (docs/own-llama-server.md)")
    found = re.search(r"version:\s*(\S+)(?: \((\w+)\))?", said)
    version = f"{found[1]} ({found[2]})" if found and found[2] else found[1] if found else "of unknown version"
    return Finding("versions", "ok", f"llama-server {version}")


def check_docker(run: Run) -> Finding:
    """Return whether Docker's engine answers, and its version."""
    try:
        version = run(["docker", "version", "--format", "{{.Server.Version}}"]).strip()
    except MissingError:
        return Finding("docker", "error", "docker is not installed", "install Docker Engine")
    except ToolError as error:
        mend = "start it (systemctl start docker), and let this user in (usermod -aG docker USER)"
        return Finding("docker", "error", str(error), mend)
    return Finding("docker", "ok", f"Docker {version}")


def check_compose(run: Run) -> Finding:
    """Return whether the compose plugin is new enough for the files that Corral renders."""
    oldest = ".".join(map(str, OLDEST_COMPOSE))
    mend = f"install the docker-compose-plugin {oldest} or later"
    try:
        said = run(["docker", "compose", "version", "--short"]).strip()
    except ToolError as error:
        return Finding("docker", "error", f"no compose plugin ({error})", mend)
    numbers = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    if numbers < OLDEST_COMPOSE:
        return Finding("docker", "error", f"Compose {said} does not know `gpus:`", mend)
    return Finding("docker", "ok", f"Compose {said}")


def check_container_toolkit(run: Run, *, docker_answers: bool) -> list[Finding]:
    """Return whether containers can have GPUs."""
    try:
        version = run(["nvidia-ctk", "--version"])
    except ToolError as error:
        return [Finding("container toolkit", "error", str(error), "install the NVIDIA Container Toolkit")]
    found = re.search(r"version (\S+)", version)
    findings = [Finding("container toolkit", "ok", f"NVIDIA Container Toolkit {found[1] if found else ''}".rstrip())]
    if docker_answers:
        findings.append(_check_runtime(run))
    return findings


def _check_runtime(run: Run) -> Finding:
    try:
        runtimes = json.loads(run(["docker", "info", "--format", "{{json .Runtimes}}"]))
        known = isinstance(runtimes, dict) and "nvidia" in runtimes
    except (ToolError, ValueError):
        known = False
    if known:
        return Finding("container toolkit", "ok", "Docker knows the nvidia runtime")
    mend = "as root: nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"
    return Finding("container toolkit", "error", "Docker does not know the nvidia runtime", mend)


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
