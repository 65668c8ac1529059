"""The fast path's shortcuts answer what LiteLLM's own functions do, and know again only keys that change nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.hooks import HOOKS

SUPPORT = Path(__file__).parents[2]
KNOWN = ("plain", "spent more", "expires later", "other parameters")


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "support.shortcut_answers"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HOOKS), str(SUPPORT)]),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "CORRAL_FAST_PATH": "off",  # nothing is in place: both can be asked
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "subject", ["savings", "row_sizes", "row_json", "provider_names", "key_objects", "management_routes"]
)
def test_the_answers_are_litellms(answers: dict[str, Any], subject: str) -> None:
    pairs = answers["same"][subject]
    assert len(pairs) >= 4
    assert [theirs for theirs, _ in pairs] == [ours for _, ours in pairs]


def test_only_a_key_of_which_nothing_else_counts_is_known_again(answers: dict[str, Any]) -> None:
    known = answers["known"]
    assert {name for name, yes in known.items() if yes} == set(KNOWN)
    assert len(known) > len(KNOWN)
