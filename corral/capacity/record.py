"""Trials on disk, written after each one, so that a search that was stopped can be taken up again."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corral.capacity.verdict import Trial
from corral.errors import CorralError
from corral.paths import write_private


@dataclass
class Record:
    """The trials of one model, and what they were made with."""

    path: Path
    settings: dict[str, Any]
    start_rpm: float = 0.0
    unloaded_s: float = 0.0
    trials: list[Trial] = field(default_factory=list)

    def save(self) -> None:
        """Write it."""
        document = {
            "settings": self.settings, "start_rpm": self.start_rpm, "unloaded_s": self.unloaded_s,
            "trials": [asdict(trial) for trial in self.trials],
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self.path, json.dumps(document, indent=1))

    def at(self, rate_rpm: float) -> Trial | None:
        """Return the trial of a rate, if there was one."""
        return next((trial for trial in self.trials if trial.rate_rpm == rate_rpm), None)


def taken_up(path: Path, settings: dict[str, Any]) -> Record:
    """Return what was recorded before, empty if nothing was.

    Raises:
        CorralError: it was made with other settings, or cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        trials = [Trial(**{**trial, "in_flight": tuple(trial["in_flight"])}) for trial in found["trials"]]
        record = Record(path, found["settings"], found["start_rpm"], found["unloaded_s"], trials)
    except FileNotFoundError:
        return Record(path, settings)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorralError(f"{path} cannot be taken up ({error})", "leave out --resume to begin anew") from None
    if record.settings != settings:
        names = [name for name in settings if settings[name] != record.settings.get(name)]
        raise CorralError(
            f"{path} was made with another {', '.join(names)}", "give the same, or leave out --resume", exit_code=2
        )
    return record
