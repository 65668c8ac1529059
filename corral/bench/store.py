"""The SQLite file with the runs: what each was, its summary, and the values that comparisons are made of."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.errors import CorralError

DEFAULT_FILE = Path("bench-results") / "runs.sqlite"
MAX_SAMPLES = 5000
"""Values kept of one metric of one model in a run; of more, every n-th."""
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, label TEXT NOT NULL, script TEXT NOT NULL, farm TEXT NOT NULL, started_at TEXT NOT NULL,
    seconds REAL NOT NULL, seed INTEGER NOT NULL, revision TEXT NOT NULL, kept INTEGER NOT NULL, summary TEXT NOT NULL
);
CREATE TABLE samples (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, metric TEXT NOT NULL, subject TEXT NOT NULL,
    at_s REAL NOT NULL, value REAL NOT NULL
);
CREATE INDEX samples_of_run ON samples (run, metric, subject, at_s);
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value: of `metric` (its unit is its name's end) and `subject` (a model), `at_s` seconds into the run."""

    metric: str
    subject: str
    at_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run. `kept` says whether every objective was, `revision` is git's description of the checkout."""

    label: str
    script: str
    farm: str
    started_at: str
    seconds: float
    seed: int
    revision: str
    kept: bool
    summary: dict[str, Any] = field(repr=False)
    id: int = 0


class Store:
    """All runs of one file."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, run: Run, samples: Sequence[Sample]) -> int:
        """Keep a run; return its number."""
        with self._database:
            cursor = self._database.execute(
                "INSERT INTO runs (label, script, farm, started_at, seconds, seed, revision, kept, summary)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.label, run.script, run.farm, run.started_at, run.seconds, run.seed, run.revision, run.kept,
                    json.dumps(run.summary),
                ),
            )  # fmt: skip
            number = int(cursor.lastrowid or 0)
            self._database.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?)",
                ((number, each.metric, each.subject, each.at_s, each.value) for each in _thinned(samples)),
            )
        return number

    def runs(self) -> list[Run]:
        """Return all runs, oldest first."""
        return [_run(row) for row in self._database.execute("SELECT * FROM runs ORDER BY id")]

    def find(self, reference: str) -> Run:
        """Return the run of a number or a label (the last of that label); `last` is the last of all.

        Raises:
            CorralError: there is none.
        """
        every = self.runs()
        matching = [run for run in every if reference in (str(run.id), run.label)]
        if reference == "last" and every:
            return every[-1]
        if matching:
            return matching[-1]
        raise CorralError(f"there is no run {reference!r}", "see those there are: corral bench list", exit_code=2)

    def samples(self, run: Run) -> dict[tuple[str, str], list[float]]:
        """Return a run's values in the order of time, by metric and subject."""
        found: dict[tuple[str, str], list[float]] = {}
        query = "SELECT metric, subject, value FROM samples WHERE run = ? ORDER BY metric, subject, at_s"
        for metric, subject, value in self._database.execute(query, (run.id,)):
            found.setdefault((metric, subject), []).append(value)
        return found


@contextmanager
def opened(path: Path, *, create: bool = False) -> Iterator[Store]:
    """Open the file; `create` makes it where it is missing.

    Raises:
        CorralError: it is missing, or is no such file.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise CorralError(f"{path} does not exist, no run was kept yet", "make one: corral load-test")
    database = sqlite3.connect(path)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.executescript(_SCHEMA + f"PRAGMA user_version = {SCHEMA_VERSION};")
        elif version != SCHEMA_VERSION:
            raise CorralError(f"{path} was written by another version of Corral", "move it away; a new one is made")
        yield Store(database)
    except sqlite3.DatabaseError as error:
        raise CorralError(f"{path} cannot be used ({error})", "name another with --store, or move it away") from error
    finally:
        database.close()


def _thinned(samples: Sequence[Sample]) -> Iterator[Sample]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.metric, sample.subject), []).append(sample)
    for group in groups.values():
        yield from group[:: -(-len(group) // MAX_SAMPLES)]


def _run(row: tuple[Any, ...]) -> Run:
    number, label, script, farm, started, seconds, seed, revision, kept, summary = row
    return Run(label, script, farm, started, seconds, seed, revision, bool(kept), json.loads(summary), number)
