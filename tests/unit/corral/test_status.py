"""What `corral status` prints: nothing that one needs is cut off, however narrow the terminal."""

import io

import pytest
from rich.console import Console

from corral.farmstate import FarmState, PartPhase, PartState
from corral.status import print_table

STATES: tuple[PartPhase, ...] = ("ready", "not answering", "restarting")


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal of 80 columns", "pipe"])
def test_names_states_and_addresses_are_whole(is_terminal: bool) -> None:
    parts = [
        PartState(name=f"blackbox-exporter-{place}", kind="service", state=state, address=f"127.0.0.1:4190{place}")
        for place, state in enumerate(STATES)
    ]
    parts[1].detail = "did not answer for 60 s"
    farm = FarmState(endpoint="http://127.0.0.1:4000/v1", phase="running", models=[], parts=parts)
    out = io.StringIO()
    print_table(Console(file=out, width=80, force_terminal=is_terminal, color_system=None), farm)
    for part in parts:
        assert part.name in out.getvalue()
        assert part.state in out.getvalue()
        assert part.address in out.getvalue()
