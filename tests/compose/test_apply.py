"""`corral apply` over containers: a farm is started, gets a new image under load, and is put back if it cannot work."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.compose_farm import SECRETS, Gate, Load
from support.compose_images import GPU_SERVER
from support.compose_table import Tell
from support.docker_host import DockerHost

FARM = """
name: applied
hosts:
  box: {{address: 192.168.1.20, cores: 2, image: "corral-gpu-server:{tag}"}}
  gate: {{address: 192.168.1.10}}
models:
  qwen:
    source: {{path: /srv/corral/models/qwen.gguf}}
    aliases: [chat]
    context: 1024
    slots: 2
    threads: 1
    batch: 256
    ubatch: 64
    cache_ram_mib: 32
    memory_mib: 640
    extra_args: {flags}
servers:
  - {{model: qwen, host: box, count: 2, ports: 8080-8081}}
proxy: {{host: gate, listen: 192.168.1.10}}
"""


class Applied:
    """A folder with a farm file; what is applied from it is taken down at the end."""

    def __init__(self, host: DockerHost, folder: Path) -> None:
        self._host = host
        self.folder = folder
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))

    def say(self, tag: str, flags: str = "[]") -> None:
        (self.folder / "corral.yaml").write_text(FARM.format(tag=tag, flags=flags))

    def images(self) -> set[str]:
        listed = self._host.docker(
            "ps", "--filter", "label=com.docker.compose.project=applied-box", "--format", "{{.Image}}"
        )
        return set(listed.stdout.split())

    def corral(self, *words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("corral"), *words], cwd=self.folder, capture_output=True, text=True,
            timeout=280, check=False, env={**os.environ, **self._host.commands(self.folder / "bin")},
        )  # fmt: skip
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr

    def take_down(self) -> None:
        for file in (self.folder / "hosts/box/gpu-server/compose.yaml", self.folder / "litellm/compose.yaml"):
            if file.exists():
                arguments = ("--env-file", str(self.folder / ".env"), "down", "--volumes", "--timeout", "5")
                self._host.compose([file], *arguments, check=False)


@pytest.fixture
def applied(host: DockerHost, tmp_path: Path) -> Iterator[Applied]:
    made = Applied(host, tmp_path)
    yield made
    made.take_down()


def test_a_farm_gets_a_new_image_under_load_and_is_put_back(host: DockerHost, applied: Applied, tell: Tell) -> None:
    for tag in ("b1", "b2"):  # of one content: what differs between llama.cpp's builds is not ours to show
        host.docker("tag", GPU_SERVER, f"corral-gpu-server:{tag}")
    applied.say("b1")
    applied.corral("apply", "--yes")
    assert applied.images() == {"corral-gpu-server:b1"}
    with Load(Gate(Gate().make_key())) as load:
        applied.say("b2")
        said = applied.corral("apply")
        assert "qwen-2: ready after" in said
        assert "litellm" not in said
        took = said.splitlines()[-1]
        assert applied.images() == {"corral-gpu-server:b2"}
        load.wait_for_more()
        applied.say("b2", flags='["--no-such-flag"]')
        said = applied.corral("apply", rc=1)
        assert "everything was put back as it was" in said
        load.wait_for_more()
    asked = len(load.failures) + load.answers
    tell(
        "`corral apply` of a new image to two servers, then of one that cannot work",
        took,
        f"{len(load.failures)} of {asked}",
    )
    assert load.failures == []
    assert "nothing to change" in applied.corral("rollback", "2", "--yes")
