"""Where a one-machine farm keeps its state, and where the checkout's own files are."""

import os
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The checkout this package runs from (it is installed editable)."""

DEFAULT_FARM_FILE = CHECKOUT / "farms" / "laptop.yaml"
OWN_FARM_FILE = Path("corral.yaml")


@dataclass(frozen=True)
class StateDir:
    """The folder with everything a farm makes at run time: `.corral/` beside the checkout's Makefile.

    The folder has mode 700, each file with a secret 600. Deleting it deletes the farm's data and nothing else.
    """

    root: Path

    @property
    def secrets_file(self) -> Path:
        """`KEY=value` lines, mode 600: master key, salt, passwords."""
        return self.root / ".env"

    @property
    def state_file(self) -> Path:
        """JSON that the keeper rewrites on every change; see `corral.farmstate`."""
        return self.root / "run" / "state.json"

    @property
    def plan_file(self) -> Path:
        """JSON, mode 600: the parts that the keeper is to run, with their environments."""
        return self.root / "run" / "plan.json"

    @property
    def change_file(self) -> Path:
        """JSON, mode 600: a step of a change, for the keeper; see `corral.keeper.changes`."""
        return self.root / "run" / "change.json"

    @property
    def history(self) -> Path:
        """The farm files that ran, numbered; see `corral.apply.history`."""
        return self.root / "history"

    @property
    def replaced(self) -> Path:
        """The rendered files that the last change of a farm of containers replaced."""
        return self.root / "replaced"

    @property
    def lock_file(self) -> Path:
        """Locked (flock) by the keeper for as long as it lives."""
        return self.root / "run" / "keeper.lock"

    @property
    def ports_file(self) -> Path:
        """JSON: the ports of the last start, so that addresses stay the same."""
        return self.root / "ports.json"

    def litellm_config(self, digest: str) -> Path:
        """Return where LiteLLM's rendered configuration lies; one file for each, so that an earlier one can be had."""
        return self.root / "litellm" / f"config-{digest}.yaml"

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.root / "postgres"

    @property
    def models(self) -> Path:
        """Models that were converted here."""
        return self.root / "models"

    @property
    def headers(self) -> Path:
        """Headers of models that are elsewhere, as fetched for a plan."""
        return self.root / "headers"

    @property
    def logs(self) -> Path:
        """One file a part."""
        return self.root / "logs"

    def log_file(self, part: str) -> Path:
        """Return the file that holds a part's output."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the folders, for this user alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.state_file.parent, self.logs, self.models, self.root / "litellm", self.history):
            folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file's content atomically; the file has mode 600 from its first moment on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
