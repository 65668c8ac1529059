"""`corral models` as a process of its own: killed, interrupted, piped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.farm_files import serving
from support.model_server import ModelServer
from support.model_yard import gguf, sha256
from support.waiting import wait_until

GGUF = gguf(3_000_000)
HELD = 1_000_000


class Command:
    """`corral models` with a farm file of one model."""

    def __init__(self, folder: Path, server: ModelServer) -> None:
        self.into = folder / "models"
        self.file = folder / "corral.yaml"
        self.write(serving({"llama": {"source": {"url": f"{server.url}/m.gguf", "sha256": sha256(GGUF)}}}))

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def argv(self, verb: str, *arguments: str) -> list[str]:
        options = ["--file", str(self.file), "--into", str(self.into)]
        return [sys.executable, "-m", "corral.models.cli", verb, *arguments, *options]

    def run(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(verb, *arguments), capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        )  # fmt: skip

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Give a pull that is under way."""
        process = subprocess.Popen(self.argv("pull", *arguments), text=True, stderr=subprocess.PIPE)
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=10)

    def part_bytes(self) -> int:
        part = self.into / "llama.gguf.part"
        return part.stat().st_size if part.exists() else 0


def test_a_pull_that_was_killed_goes_on_where_it_was(server: ModelServer, tmp_path: Path) -> None:
    command = Command(tmp_path, server)
    file = server.put("/m.gguf", GGUF, hold_after=HELD)
    with command.running() as process:
        # What Python still holds of the last piece in its buffer dies with it.
        wait_until(lambda: command.part_bytes() > HELD - 64 * 1024, 30, "the first megabyte")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    here = command.part_bytes()
    listed = json.loads(command.run("list", "--json").stdout)
    assert [entry["state"] for entry in listed] == [f"partial {100 * here // len(GGUF)} %"]
    file.released.set()
    again = command.run("pull")
    assert again.returncode == 0, again.stderr
    assert file.ranges_asked == [None, f"bytes={here}-"]
    assert "going on after the 1 MB that are here" in again.stderr
    assert (command.into / "llama.gguf").read_bytes() == GGUF
    assert [entry["state"] for entry in json.loads(command.run("list", "--json").stdout)] == ["ready"]


def test_ctrl_c_keeps_what_came_and_says_so(server: ModelServer, tmp_path: Path) -> None:
    command = Command(tmp_path, server)
    server.put("/m.gguf", GGUF, hold_after=HELD)
    with command.running() as process:
        wait_until(lambda: command.part_bytes() > HELD - 64 * 1024, 30, "the first megabyte")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: what was fetched is kept; the same command goes on from there"
    assert command.part_bytes() == HELD


def test_scripts_get_json_and_exit_codes(server: ModelServer, tmp_path: Path) -> None:
    command = Command(tmp_path, server)
    failed = command.run("pull", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)[0]["outcome"] == "failed"
    assert failed.stderr.splitlines()[-1].startswith("error: llama: http://127.0.0.1")
    server.put("/m.gguf", GGUF)
    pulled = command.run("pull", "llama", "--json")
    assert pulled.returncode == 0
    assert json.loads(pulled.stdout) == [
        {
            "name": "llama", "outcome": "fetched", "path": str(command.into / "llama.gguf"), "size": len(GGUF),
            "checked": True, "error": None,
        }
    ]  # fmt: skip
    assert command.run("pull", "other").returncode == 2
    assert command.run("verify").returncode == 0


def test_the_hub_and_its_token_come_from_the_environment(server: ModelServer, tmp_path: Path) -> None:
    command = Command(tmp_path, server)
    command.write(serving({"llama": {"source": {"hub": "owner/repo", "file": "m.gguf", "revision": "abc"}}}))
    file = server.put("/owner/repo/resolve/abc/m.gguf", GGUF)
    result = command.run("pull", HF_ENDPOINT=server.url + "/", HF_TOKEN="hf_secret")
    assert result.returncode == 0, result.stderr
    assert file.asked[-1]["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in result.stdout + result.stderr
    assert "warning: llama is unchecked" in result.stderr  # this hub tells no SHA-256
    bad = command.run("pull", HF_ENDPOINT="ftp://hub")
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
