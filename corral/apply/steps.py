"""One step of a change, handed to the keeper and followed to its end."""

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from corral import farmstate
from corral.errors import CorralError
from corral.farmstate import Failure, FarmState
from corral.keeper.changes import ChangeRequest
from corral.paths import StateDir

_FOLLOW_S = 0.1


class Steps:
    """Hands steps to the keeper of a running farm.

    The gate leaves a server alone for a while after it refused requests, as one does that is being replaced. So no
    server is touched before the gate has had time to come back to the one before: else it would know of none.

    Args:
        state: the farm's.
        show: told of the farm's state as it changes.
        settle_s: how long the gate leaves a server alone.
    """

    def __init__(self, state: StateDir, show: Callable[[FarmState], None], settle_s: float) -> None:
        self._state = state
        self._show = show
        self._settle_s = settle_s
        self._not_before = 0.0

    def do(self, request: ChangeRequest) -> Failure | None:
        """Have the keeper do one step; return why it failed, None if it did not.

        Raises:
            CorralError: the keeper is gone.
        """
        request = replace(request, id=uuid.uuid4().hex)
        while time.monotonic() < self._not_before:
            self._show(self._farm())
            time.sleep(_FOLLOW_S)
        farm = self._farm()
        request.write(self._state)
        os.kill(farm.keeper_pid, signal.SIGUSR1)
        while True:
            farm = self._farm()
            self._show(farm)
            if farm.change is not None and farm.change.id == request.id and farm.change.done:
                if request.parts or request.restore:
                    self._not_before = time.monotonic() + self._settle_s
                return farm.change.failure
            time.sleep(_FOLLOW_S)

    def _farm(self) -> FarmState:
        farm = farmstate.read(self._state.state_file)
        if farm is None or farmstate.keeper(farm) is None:
            raise CorralError("the farm stopped while it was being changed", "start it again: make up")
        return farm
