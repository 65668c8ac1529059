"""The file that tells of a farm: what each part does, and since when."""

import logging
import time

from corral import farmstate
from corral.farmstate import FarmState, PartPhase, PartState
from corral.parts import Part
from corral.paths import StateDir

_log = logging.getLogger(__name__)


class Record:
    """Keeps the states of parts, and writes each change down."""

    def __init__(self, state: StateDir, farm: FarmState) -> None:
        self._state = state
        self._farm = farm

    def part(self, part: Part) -> PartState:
        """Return what is known of a part; KeyError if the farm has none of its name."""
        return self._farm.part(part.name)

    def set(self, part: Part, phase: PartPhase, detail: str = "") -> None:
        """Note what a part does now."""
        state = self.part(part)
        if (state.state, state.detail) == (phase, detail):
            return
        if state.state != phase:
            state.since = time.time()
        state.state, state.detail = phase, detail
        if phase in ("stopped", "done", "failed", "restarting"):
            state.pid = None
        self.write()

    def detail(self, part: Part, detail: str) -> None:
        """Note more of what a part does; its state is the same."""
        self.set(part, self.part(part).state, detail)

    def write(self) -> None:
        """Tell the world. A full disk must not end the farm: then the file tells of an earlier moment."""
        try:
            farmstate.write(self._state.state_file, self._farm)
        except OSError as error:
            _log.warning("%s is not written: %s", self._state.state_file, error)


def part_state(part: Part) -> PartState:
    """Return the state of a part that has not begun."""
    return PartState(name=part.name, kind=part.kind, address=part.address, port=part.port, revision=part.revision)
