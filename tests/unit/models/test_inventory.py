"""corral models list, verify and rm, over files that lie in a folder."""

import json
import os
from pathlib import Path

import gguf
import pytest
from typer.testing import CliRunner, Result

from corral.models.cli import app
from corral.models.files import exclusively, sha256_of
from corral.models.records import Files, Record
from corral.models.sources import SOURCE
from support.farm_files import serving

URL = "https://host/x.gguf"
BODY = b"GGUF" + bytes(996)


class Place:
    """A folder with a farm file of one model, `llama`, and the command."""

    def __init__(self, folder: Path) -> None:
        self.into = folder / "models"
        self.into.mkdir()
        self.file = folder / "corral.yaml"
        self.files = Files(self.into, "llama")
        self.source(url=URL)

    def source(self, **source: str) -> None:
        self.file.write_text(serving({"llama": {"source": source}}))

    def pulled(self, body: bytes = BODY, *, checked: bool = True, **source: str) -> None:
        """Put the model there as a pull does."""
        self.files.target.write_bytes(body)
        origin = SOURCE.validate_python(source or {"url": URL}).origin
        self.files.write_record(Record(origin, len(body), sha256_of(self.files.target), checked, mtime_ns=0))

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        options = ["--file", str(self.file), "--into", str(self.into)]
        return CliRunner().invoke(app, [*arguments, *options], input=answer)

    def state(self) -> str:
        [entry] = json.loads(self.run("list", "--json").stdout)
        return f"{entry['state']}: {entry['why']}" if entry["why"] else str(entry["state"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_each_state_is_told_without_hashing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.state() == "missing"
    place.files.part.write_bytes(b"GGUF" + bytes(426))
    place.files.part_of.write_text('{"size": 1000}')
    assert place.state() == "partial 43 %: 0 MB are here: pull goes on from there"
    place.files.part.unlink()
    place.pulled()
    monkeypatch.setattr("corral.models.inventory.sha256_of", lambda path: pytest.fail(f"hashed {path}"))
    assert place.state() == "ready"
    place.source(url=URL, sha256="0" * 64)
    assert place.state() == "wrong: its SHA-256 is not the one in the farm file: pull it again"
    place.source(url="https://host/y.gguf")
    assert place.state().startswith("wrong: pulled from another source")
    place.source(url=URL)
    place.files.target.write_bytes(BODY + b"more")
    assert place.state().startswith("wrong: its size")


def test_what_nobody_vouched_for_is_said_aloud(place: Place) -> None:
    place.pulled(checked=False)
    assert place.state() == "ready: unchecked: no SHA-256 was given for it"
    place.files.record_file.unlink()
    assert "not checked" in place.state()


def test_verify_finds_rot_and_list_remembers_it(place: Place) -> None:
    place.pulled()
    assert place.run("verify").exit_code == 0
    status = place.files.target.stat()
    place.files.target.write_bytes(BODY[:-1] + b"!")
    os.utime(place.files.target, ns=(status.st_atime_ns, status.st_mtime_ns))  # behind the file system's back
    result = place.run("verify")
    assert result.exit_code == 1
    assert "is damaged: SHA-256" in result.stderr
    assert "; corral models pull llama" in result.stderr
    assert place.state() == "wrong: verify found it damaged: pull it again"


def test_verify_tells_missing_and_foreign_files(place: Place) -> None:
    assert "is missing; corral models pull llama" in place.run("verify").stderr
    place.files.target.write_bytes(b"<html>")
    assert "is no GGUF file" in place.run("verify").stderr
    [verdict] = json.loads(place.run("verify", "--json").stdout)
    assert (verdict["right"], verdict["problem"]) == (False, "is no GGUF file")


def test_rm_asks_and_says_what_is_freed(place: Place) -> None:
    place.pulled(b"GGUF" + bytes(4_999_996))
    unanswered = place.run("rm", "llama")
    assert (unanswered.exit_code, place.files.target.exists()) == (2, True)
    assert "add --yes" in unanswered.stderr
    removed = place.run("rm", "llama", "--yes")
    assert removed.stdout == "llama: removed, 5 MB are free again\n"
    assert [path.name for path in place.into.iterdir()] == [place.files.lock.name]


def test_rm_takes_no_for_an_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.pulled()
    monkeypatch.setattr("corral.models.cli.somebody_is_there", lambda: True)
    assert place.run("rm", "llama", answer="n\n").exit_code == 1
    assert place.files.target.exists()
    assert place.run("rm", "llama", answer="y\n").exit_code == 0
    assert not place.files.target.exists()


def test_rm_refuses_what_it_did_not_put_there(place: Place) -> None:
    own = place.file.parent / "own.gguf"
    own.write_bytes(BODY)
    place.source(path="own.gguf")
    refused = place.run("rm", "llama", "--yes")
    assert (refused.exit_code, own.exists()) == (2, True)
    assert "remove the file by hand" in refused.stderr
    assert place.run("rm", "../own", "--yes").exit_code == 2
    assert own.exists()


def test_rm_refuses_what_is_not_there_and_then_removes_nothing(place: Place) -> None:
    assert "nothing of it is in" in place.run("rm", "llama", "--yes").stderr
    place.pulled()
    assert place.run("rm", "llama", "gone", "--yes").exit_code == 2
    assert place.files.target.exists()


def test_rm_does_not_pull_the_rug_from_under_a_pull(place: Place) -> None:
    place.pulled()
    with exclusively(place.files.lock, 0.0, lambda: None):
        refused = place.run("rm", "llama", "--yes")
    assert refused.exit_code == 1
    assert "is being pulled right now" in refused.stderr
    assert place.files.target.exists()


def test_a_model_that_left_the_farm_file_is_listed_and_can_go(place: Place) -> None:
    place.pulled()
    place.file.write_text(serving({"other": {"source": {"path": "other.gguf"}}}))
    listed = json.loads(place.run("list", "--json").stdout)
    assert [(entry["name"], entry["state"]) for entry in listed] == [("other", "missing"), ("llama", "ready")]
    assert "not in the farm file" in listed[1]["why"]
    assert place.run("rm", "llama", "--yes").exit_code == 0
    assert not place.files.target.exists()


@pytest.fixture
def real_gguf(tmp_path: Path) -> Path:
    """A header as converters write it: file type behind arrays of strings and numbers."""
    path = tmp_path / "real.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("general.languages", ["en", "de"])
    writer.add_array("llama.numbers", [1, 2, 3])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q5_K_M)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_list_shows_the_quantisation(place: Place, real_gguf: Path) -> None:
    place.pulled(real_gguf.read_bytes())
    [entry] = json.loads(place.run("list", "--json").stdout)
    assert entry["quantisation"] == "Q5_K_M"
    assert "Q5_K_M" in place.run("list").stdout


def test_a_header_that_is_cut_or_garbage_only_has_no_quantisation(place: Place, real_gguf: Path) -> None:
    whole = real_gguf.read_bytes()
    for body in (whole[:40], whole[:24] + b"\xff" * 200, b"GGUF"):
        place.pulled(body)
        [entry] = json.loads(place.run("list", "--json").stdout)
        assert (entry["quantisation"], entry["state"]) == (None, "ready")


def test_every_command_has_help_with_examples() -> None:
    for verb in ("pull", "list", "verify", "rm"):
        assert "Examples" in CliRunner().invoke(app, [verb, "--help"]).stdout
