"""Making packaged models ready: once, checked, repaired where that is possible, and never half done."""

import errno
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import corral.models.conversion
from corral.models import preparation, stamps
from corral.models.catalogue import PackagedModel, PinnedFile
from corral.models.conversion import convert_bert
from corral.models.errors import ModelError
from corral.models.preparation import prepare, verify
from support.tiny_bert import write_tiny_bert
from support.waiting import wait_until

ENCODER_FILES = ("model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json")


def pinned(path: str, content: bytes) -> PinnedFile:
    return PinnedFile(path, len(content), hashlib.sha256(content).hexdigest())


class Farmyard:
    """Two packages whose code must never run, the models in them, and a place to keep what is converted."""

    def __init__(self, root: Path) -> None:
        self.models_dir = root / "models"
        self.steps: list[str] = []
        self.site = root / "site"
        self.weights = self.site / "tiny_chat" / "chat.gguf"
        self.encoder = self.site / "tiny_embed" / "model"
        for package in ("tiny_chat", "tiny_embed"):
            (self.site / package).mkdir(parents=True)
            (self.site / package / "__init__.py").write_text("raise RuntimeError('a model package was imported')\n")
        self.weights.write_bytes(b"GGUF weights as they are")
        write_tiny_bert(self.encoder)
        convert_bert(self.encoder, root / "tiny.gguf", name="tiny", licence="apache-2.0")
        self.expected = (root / "tiny.gguf").read_bytes()
        chat = PackagedModel(
            name="chat",
            title="Tiny chat",
            mode="chat",
            package="tiny_chat",
            distribution="tiny-chat",
            licence="apache-2.0",
            context=64,
            dimensions=None,
            sources=(pinned("chat.gguf", self.weights.read_bytes()),),
        )
        embed = PackagedModel(
            name="embed",
            title="Tiny embed",
            mode="embedding",
            package="tiny_embed",
            distribution="tiny-embed",
            licence="apache-2.0",
            context=16,
            dimensions=8,
            sources=tuple(pinned(f"model/{name}", (self.encoder / name).read_bytes()) for name in ENCODER_FILES),
            converted=pinned("tiny.f16.gguf", self.expected),
        )
        self.models = (chat, embed)

    @property
    def converted(self) -> Path:
        return self.models_dir / "tiny.f16.gguf"

    def prepare(self, lock_timeout_s: float = 30) -> dict[str, Path]:
        return prepare(self.models_dir, self.steps.append, self.models, lock_timeout_s)

    def problems(self) -> dict[str, str]:
        checks = verify(self.models_dir, self.models)
        return {check.path.name: f"{check.problem}; {check.mend}" for check in checks if check.problem}

    def leftovers(self) -> list[str]:
        return [path.name for path in self.models_dir.glob("*.partial")]

    def conversions(self) -> int:
        return sum("converting" in step for step in self.steps)


@pytest.fixture
def farmyard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farmyard:
    yard = Farmyard(tmp_path)
    monkeypatch.syspath_prepend(str(yard.site))
    importlib.invalidate_caches()
    return yard


def test_every_model_ends_up_with_a_path_and_no_package_code_runs(farmyard: Farmyard) -> None:
    paths = farmyard.prepare()
    assert paths == {"chat": farmyard.weights, "embed": farmyard.converted}
    assert farmyard.converted.read_bytes() == farmyard.expected
    assert farmyard.problems() == {}
    assert "tiny_chat" not in sys.modules


def test_a_second_start_reads_no_weights_and_writes_nothing(
    farmyard: Farmyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = farmyard.prepare()
    before = {path: path.stat().st_mtime_ns for path in farmyard.models_dir.iterdir()}
    monkeypatch.setattr(stamps, "sha256_of", lambda path: pytest.fail(f"hashed {path} again"))
    assert farmyard.prepare() == first
    assert {path: path.stat().st_mtime_ns for path in farmyard.models_dir.iterdir()} == before
    assert farmyard.conversions() == 1


@pytest.mark.parametrize("damage", [b"", b"GGUF", None])
def test_a_damaged_converted_model_is_converted_again(farmyard: Farmyard, damage: bytes | None) -> None:
    farmyard.prepare()
    if damage is None:
        farmyard.converted.unlink()
    else:
        farmyard.converted.write_bytes(damage)
    farmyard.prepare()
    assert farmyard.converted.read_bytes() == farmyard.expected
    assert farmyard.conversions() == 2


def test_a_changed_byte_of_the_same_size_is_noticed_at_the_next_start(farmyard: Farmyard) -> None:
    farmyard.prepare()
    farmyard.converted.write_bytes(farmyard.expected[:-1] + b"!")
    assert "SHA-256" in farmyard.problems()["tiny.f16.gguf"]
    farmyard.prepare()
    assert farmyard.converted.read_bytes() == farmyard.expected


def test_verify_trusts_no_stamp(farmyard: Farmyard) -> None:
    farmyard.prepare()
    before = farmyard.converted.stat()
    farmyard.converted.write_bytes(farmyard.expected[:-1] + b"!")
    os.utime(farmyard.converted, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "python -m corral.models prepare" in farmyard.problems()["tiny.f16.gguf"]


def test_a_damaged_stamp_file_only_costs_the_hashing_again(farmyard: Farmyard) -> None:
    farmyard.prepare()
    (farmyard.models_dir / "verified.json").write_text('{"x": [')
    farmyard.prepare()
    assert farmyard.conversions() == 1


def test_damaged_packaged_weights_say_how_to_reinstall(farmyard: Farmyard) -> None:
    farmyard.prepare()
    farmyard.weights.write_bytes(b"GGUF weights as they ARE")
    with pytest.raises(ModelError, match=r"chat\.gguf is damaged.*make clean && make up"):
        farmyard.prepare()
    assert "make clean" in farmyard.problems()["chat.gguf"]


@pytest.mark.parametrize("name", ENCODER_FILES)
def test_a_package_that_lacks_a_file_is_an_error_that_names_it(farmyard: Farmyard, name: str) -> None:
    (farmyard.encoder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing.*make clean && make up"):
        farmyard.prepare()
    assert not farmyard.converted.exists()


def test_damaged_sources_are_noticed_before_they_are_converted(farmyard: Farmyard) -> None:
    weights = farmyard.encoder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged: \d+ bytes instead of"):
        farmyard.prepare()
    assert not farmyard.converted.exists()


def test_a_package_that_is_not_installed_is_named(farmyard: Farmyard) -> None:
    absent = replace(farmyard.models[0], package="tiny_absent", distribution="tiny-absent")
    with pytest.raises(ModelError, match=r"tiny-absent, which carries chat, is not installed.*make clean"):
        prepare(farmyard.models_dir, farmyard.steps.append, [absent])


def test_a_result_with_other_bytes_than_pinned_is_not_kept(farmyard: Farmyard) -> None:
    chat, embed = farmyard.models
    farmyard.models = (chat, replace(embed, converted=pinned("tiny.f16.gguf", b"x" * len(farmyard.expected))))
    with pytest.raises(ModelError, match="other bytes than this version of Corral expects"):
        farmyard.prepare()
    assert not farmyard.converted.exists()
    assert farmyard.leftovers() == []


def test_too_little_room_is_said_before_anything_is_written(
    farmyard: Farmyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(farmyard.site)._replace(free=1_000_000)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"no room on the disk .*needs 17 MB, 1 MB are free.*free some"):
        farmyard.prepare()
    assert not farmyard.converted.exists()


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(
    farmyard: Farmyard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: Path, **_: object) -> None:
        target.write_bytes(farmyard.expected[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(corral.models.conversion, "convert_bert", full)
    with pytest.raises(ModelError, match="no room on the disk"):
        farmyard.prepare()
    assert not farmyard.converted.exists()
    assert farmyard.leftovers() == []


def test_a_directory_that_cannot_be_made_is_named(farmyard: Farmyard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"file/models: Not a directory; check its owner"):
        prepare(tmp_path / "file" / "models", farmyard.steps.append, farmyard.models)


HALF_WAY = """
import sys
from pathlib import Path
from corral.models.files import exclusively, replacing
directory = Path(sys.argv[1])
directory.mkdir()
with exclusively(directory / ".lock", 5, lambda: None), replacing(directory / "tiny.f16.gguf") as partial:
    partial.write_bytes(b"GGUF half")
    print("half-way", flush=True)
    sys.stdin.read()
"""


def test_a_conversion_killed_half_way_leaves_no_model_and_the_next_one_succeeds(farmyard: Farmyard) -> None:
    command = [sys.executable, "-c", HALF_WAY, str(farmyard.models_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half-way\n"
        process.kill()
    assert not farmyard.converted.exists()
    farmyard.prepare()  # the dead process's lock and temporary file are no obstacle
    assert farmyard.converted.read_bytes() == farmyard.expected
    assert farmyard.leftovers() == []


def test_two_starts_at_once_convert_once(farmyard: Farmyard) -> None:
    results: list[dict[str, Path]] = []
    threads = [threading.Thread(target=lambda: results.append(farmyard.prepare())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results == [{"chat": farmyard.weights, "embed": farmyard.converted}] * 4
    assert farmyard.conversions() == 1


def test_a_second_start_waits_for_the_first_and_says_so(farmyard: Farmyard) -> None:
    farmyard.models_dir.mkdir()
    done: list[dict[str, Path]] = []
    with preparation.exclusively(farmyard.models_dir / ".lock", 1, lambda: None):
        waiting = threading.Thread(target=lambda: done.append(farmyard.prepare()))
        waiting.start()
        wait_until(lambda: farmyard.steps, 10, "the second prepare to say that it waits")
        assert farmyard.steps == ["waiting for another process that prepares models"]
    waiting.join(timeout=30)
    assert done[0]["embed"] == farmyard.converted


def test_a_start_that_waits_too_long_gives_up(farmyard: Farmyard) -> None:
    farmyard.models_dir.mkdir()
    with (
        preparation.exclusively(farmyard.models_dir / ".lock", 1, lambda: None),
        pytest.raises(ModelError, match=r"\.lock is held by another process.*; stop that process"),
    ):
        farmyard.prepare(lock_timeout_s=0.2)
