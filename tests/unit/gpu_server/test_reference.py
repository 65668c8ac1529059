"""The reference pages say what the code does."""

from pathlib import Path

import pytest

from gpu_server.reference import pages
from gpu_server.settings import Settings
from gpu_server.states import Cause

DOCS = Path(__file__).resolve().parents[3] / "docs" / "gpu-server"


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_page_is_as_the_code_gives_it(name: str) -> None:
    assert (DOCS / name).read_text() == pages()[name], "run `make docs`"


def test_every_setting_cause_and_metric_is_told_with_a_meaning() -> None:
    told = pages()
    for name in Settings.model_fields:
        (row,) = [line for line in told["settings.md"].splitlines() if line.startswith(f"| `{name.upper()}` |")]
        assert all(cell.strip() for cell in row.strip("|").split("|")), row
    for cause in Cause:
        assert f"| `{cause.value}` |" in told["states.md"]
    for metric in ("gen_ai_server_time_to_first_token_seconds", "gpu_server_restarts_total", "gpu_xid_errors_total"):
        assert f"| `{metric}` |" in told["metrics.md"]
