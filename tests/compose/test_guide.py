"""docs/gpu-host-setup.md, its commands run line by line in a fresh Debian; cards and their driver excepted."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_farm import MODELS, ON_CPU
from support.compose_images import GUIDE, GUIDE_KEPT, GUIDE_WITH_NETWORK
from support.compose_table import Tell
from support.docker_host import DockerHost
from support.fresh_debian import HOME, FreshDebian, kept
from support.guide import Step, commands
from support.model_server import model_server

SETUP = "gpu-server/scripts/setup-host.sh"
NEEDS_OTHERS = {SETUP: 3}  # "to do", which the document says: what is not Debian's own
LEFT_TO_DO = {
    "the power limits cannot be checked before the driver works",
    "apt knows no package nvidia-driver",
    "apt knows no package nvidia-container-toolkit",
    "there is no systemd here",
}
NO_COMPOSE = "Docker has no Compose v2"
ROOM = f"{MODELS} has "  # depends on this machine's memory: it is a tmpfs
HUB_FILES = {
    "qwen": "/Qwen/Qwen2.5-7B-Instruct-GGUF/resolve/main/qwen2.5-7b-instruct-q4_k_m.gguf",
    "nomic-embed": "/nomic-ai/nomic-embed-text-v1.5-GGUF/resolve/main/nomic-embed-text-v1.5.Q8_0.gguf",
}


def check(steps: list[Step], expected: dict[str, int] | None = None) -> None:
    for step in steps:
        code = next((code for start, code in (expected or {}).items() if step.line.startswith(start)), 0)
        assert step.code == code, f"{step.line}\n{step.output[-3000:]}"


def to_do(steps: list[Step]) -> set[str]:
    lines = output_of(steps, f"{SETUP} --power-limit").splitlines()
    said = {line.removeprefix("to do").partition(";")[0].strip() for line in lines if line.startswith("to do")}
    return {what for what in said if not what.startswith(ROOM)}


def output_of(steps: list[Step], start: str) -> str:
    (found,) = [step.output for step in steps if step.line.startswith(start)]
    return found


@pytest.fixture
def reader(host: DockerHost) -> Iterator[FreshDebian]:
    """The fresh Debian, as the first sections left it; what the rest of them starts is taken down."""
    folder = Path(os.environ["CORRAL_COMPOSE_HOST"])
    if not os.environ.get("CORRAL_COMPOSE_GUIDE"):
        pytest.skip("the first sections were not followed; run all tests, or -k guide")
    debian = FreshDebian(host, folder)
    debian.start()
    models = {name: (MODELS / f"{name}.gguf").read_bytes() for name in HUB_FILES}
    yield debian
    for project in ("hosts/gpu-box/gpu-server", "litellm"):
        file = Path(HOME, "corral", project, "compose.yaml")
        if file.exists():
            print(debian.follow([f"docker compose --file {file} down --volumes --timeout 1"]))
    debian.remove()
    shutil.rmtree(HOME, ignore_errors=True)
    for name, content in models.items():
        (MODELS / f"{name}.gguf").write_bytes(content)


def test_the_guide_is_true_line_by_line(reader: FreshDebian, tell: Tell) -> None:
    begun = kept(Path(os.environ["CORRAL_COMPOSE_HOST"]) / GUIDE_KEPT)
    assert [step.line for step in begun] == commands(GUIDE, *GUIDE_WITH_NETWORK)
    check(begun, NEEDS_OTHERS)
    assert to_do(begun) == LEFT_TO_DO | {NO_COMPOSE}

    reader.add_compose()
    again = reader.follow(commands(GUIDE, "2. The machine"))
    check(again, NEEDS_OTHERS)
    assert NO_COMPOSE not in to_do(again)
    assert "doing" not in output_of(again, f"{SETUP} --power-limit")

    with model_server() as hub:
        for name, path in HUB_FILES.items():
            body = (MODELS / f"{name}.gguf").read_bytes()
            (MODELS / f"{name}.gguf").unlink()
            hub.put(path, body, headers={"X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"'})
        reader.follow([f"export HF_ENDPOINT={hub.url}"])
        check(reader.follow(commands(GUIDE, "3. The farm file", "4. Models")))
    assert sorted(path.name for path in MODELS.glob("*.gguf")) == ["nomic-embed.gguf", "qwen.gguf"]

    for project, override in (("hosts/gpu-box/gpu-server", "gpu-box.yaml"), ("litellm", "gate.yaml")):
        shutil.copy(ON_CPU / override, Path(HOME, "corral", project, "compose.override.yaml"))
    # The engine of these tests has no way out; with the network of the image that is there already, nothing is fetched.
    started = reader.follow(commands(GUIDE, "5. Start"), {"docker build": "docker build --network host"})
    check(started)
    assert "(healthy)" in output_of(started, "docker compose --project-directory hosts/gpu-box/gpu-server ps")
    assert '"completion_tokens":4' in started[-1].output.replace(" ", "")
    gate = reader.follow(commands(GUIDE, "The gate's host"))
    check(gate)
    assert '"chat"' in output_of(gate, "curl")
    assert list(Path(HOME, "corral", "dumps").glob("litellm-*.dump"))
    check(reader.follow(commands(GUIDE, "6. When something is wrong")))
    lines = len(begun) + len(started) + len(gate)
    tell(
        "docs/gpu-host-setup.md in a fresh Debian", f"true to its last line; {lines} and more commands, cards excepted"
    )
