"""`corral bench list | compare`, on a file of its own."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from corral.bench.store import MAX_SAMPLES, Run, Sample, opened
from corral.cli import app
from corral.errors import CorralError

SUMMARY: dict[str, Any] = {"models": [{"requests": 40}, {"requests": 2}]}


def run_of(label: str, **changes: Any) -> Run:
    fields = {
        "script": "mixed", "farm": "laptop", "started_at": "2026-11-21T20:00:00+00:00", "seconds": 60.0, "seed": 1,
        "revision": "abc", "kept": True, "summary": SUMMARY, **changes,
    }  # fmt: skip
    return Run(label, **fields)


def samples(value: float, count: int = 60) -> list[Sample]:
    return [Sample("ttft_ms", "chat", float(at), value + at % 7) for at in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "runs.sqlite"
    with opened(path, create=True) as runs:
        runs.add(run_of("before"), samples(100))
        runs.add(run_of("after"), samples(150))
        runs.add(run_of("again"), samples(150))
        runs.add(run_of("other", script="soak", seed=2, seconds=600.0, kept=False), samples(150))
    return path


def bench(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments, "--store", str(store)])


def test_list_tells_each_run(store: Path) -> None:
    said = bench(store, "list").stdout
    assert all(label in said for label in ("before", "after", "again", "other"))
    assert "42" in said
    assert "broken" in said


def test_a_slower_run_ends_with_1_and_tells_where(store: Path) -> None:
    result = bench(store, "compare", "before", "after")
    assert result.exit_code == 1
    assert "slower" in result.stdout
    assert "103 ms" in result.stdout
    assert "153 ms" in result.stdout


def test_a_faster_or_equal_run_ends_with_0(store: Path) -> None:
    assert bench(store, "compare", "2", "1").exit_code == 0
    assert "faster" in bench(store, "compare", "2", "1").stdout
    assert "no difference shown" in bench(store, "compare", "after", "again").stdout


def test_what_is_slower_by_less_than_the_tolerance_is_no_regression(store: Path) -> None:
    assert bench(store, "compare", "before", "after", "--tolerance", "0.6").exit_code == 0


def test_runs_that_differ_in_more_than_time_are_told(store: Path) -> None:
    said = bench(store, "compare", "before", "last").stdout
    assert "another script: mixed and soak" in said
    assert "another seed: 1 and 2" in said
    assert "another length: 60 s and 600 s" in said


def test_an_unknown_run_and_a_missing_file_are_told(store: Path, tmp_path: Path) -> None:
    unknown = bench(store, "compare", "before", "nonsense")
    assert isinstance(unknown.exception, CorralError)
    assert unknown.exception.exit_code == 2
    assert "corral bench list" in str(unknown.exception)
    missing = bench(tmp_path / "none.sqlite", "list")
    assert isinstance(missing.exception, CorralError)
    assert "corral load-test" in str(missing.exception)


def test_a_file_that_is_no_database_is_told_and_left(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_text("no database at all, only a text that is long enough to be read as a header")
    with pytest.raises(CorralError, match="cannot be used"), opened(path):
        pass
    assert path.read_text().startswith("no database")


def test_of_very_many_values_every_nth_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "runs.sqlite", create=True) as runs:
        number = runs.add(run_of("many"), samples(1, 3 * MAX_SAMPLES))
        kept = runs.samples(runs.find(str(number)))[("ttft_ms", "chat")]
    assert len(kept) == MAX_SAMPLES
    assert kept[:3] == [1.0, 4.0, 7.0]


def test_a_file_of_a_later_version_is_refused(store: Path) -> None:
    with sqlite3.connect(store) as database:
        database.execute("PRAGMA user_version = 99")
    result = bench(store, "list")
    assert isinstance(result.exception, CorralError)
    assert "another version" in str(result.exception)
