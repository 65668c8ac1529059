"""What would change: the parts that run against the parts that are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.farmstate import FarmState
from corral.parts import Part

GATE = "litellm"


@dataclass(frozen=True)
class Difference:
    """Names of removed parts; the other parts as they are to be. The gate stands apart: it goes last."""

    changed: tuple[Part, ...]
    added: tuple[Part, ...]
    removed: tuple[str, ...]
    gate: Part | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.changed or self.added or self.removed or self.gate)

    @property
    def summary(self) -> str:
        """One line for the history."""
        named = {
            "changed": [part.name for part in self.changed],
            "added": [part.name for part in self.added],
            "removed": list(self.removed),
            "restarted": [GATE] if self.gate else [],
        }
        return "; ".join(f"{what} {', '.join(names)}" for what, names in named.items() if names)


def difference(running: FarmState, wanted: Sequence[Part]) -> Difference:
    """Compare by name and revision. Jobs and parts without a revision, the database's and the monitoring's, stay."""
    known = {part.name: part for part in running.parts}
    services = [part for part in wanted if part.revision]
    differing = [part for part in services if part.name in known and known[part.name].revision != part.revision]
    names = {part.name for part in wanted}
    return Difference(
        changed=tuple(part for part in differing if part.name != GATE),
        added=tuple(part for part in services if part.name not in known),
        removed=tuple(part.name for part in running.parts if part.revision and part.name not in names),
        gate=next((part for part in differing if part.name == GATE), None),
    )
