"""What `corral apply` asks of a keeper: a file in the state folder, and SIGUSR1 to say that it is there."""

import json
from dataclasses import dataclass, field
from typing import Any

from corral.parts import Part
from corral.paths import StateDir, write_private


@dataclass(frozen=True)
class ChangeRequest:
    """One step of a change. The keeper says in its state file, under the same `id`, how it ended.

    Args:
        id: of this step.
        parts: to be started, each in the place of the part of its name if there is one.
        remove: names of parts to be stopped for good.
        restore: names of parts to be put back as they were before the last step that named them.
        models: what the farm serves from now on, and in which mode; None if that stays.
    """

    id: str
    parts: tuple[Part, ...] = ()
    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    models: dict[str, str] | None = field(default=None)

    def write(self, state: StateDir) -> None:
        """Put it where the keeper looks."""
        document = {
            "id": self.id,
            "parts": [part.to_json() for part in self.parts],
            "remove": self.remove,
            "restore": self.restore,
            "models": self.models,
        }
        write_private(state.change_file, json.dumps(document))

    @classmethod
    def take(cls, state: StateDir) -> "ChangeRequest":
        """Read it and delete it: it holds secrets.

        Raises:
            OSError: there is none.
        """
        document: dict[str, Any] = json.loads(state.change_file.read_text(encoding="utf-8"))
        state.change_file.unlink()
        return cls(
            id=document["id"],
            parts=tuple(Part.from_json(part) for part in document["parts"]),
            remove=tuple(document["remove"]),
            restore=tuple(document["restore"]),
            models=document["models"],
        )
