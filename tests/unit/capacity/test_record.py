"""Trials on disk: what a search is taken up from."""

from pathlib import Path

import pytest

from corral.capacity.record import Record, taken_up
from corral.capacity.verdict import Trial
from corral.errors import CorralError

SETTINGS = {"seed": 1, "requests": 200, "objectives": {"ttft_p95_s": 5.0}}
TRIAL = Trial(100, 120, 200, 1, 0, 3, 0.8, 4.1, 6.0, 11.0, (6.0, 7.0, 7.0, 7.5), {"a-1": 199}, loads={"busy:a-1": 0.5})


def test_what_was_saved_is_taken_up_to_the_last_figure(tmp_path: Path) -> None:
    path = tmp_path / "farm" / "model.json"
    Record(path, SETTINGS, 50.0, 0.4, [TRIAL]).save()
    found = taken_up(path, SETTINGS)
    assert found.trials == [TRIAL]
    assert (found.start_rpm, found.unloaded_s) == (50.0, 0.4)
    assert found.at(100) == TRIAL
    assert found.at(101) is None


def test_nothing_yet_is_a_beginning(tmp_path: Path) -> None:
    assert taken_up(tmp_path / "none.json", SETTINGS).trials == []


def test_other_settings_are_refused_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    Record(path, SETTINGS, 50.0, 0.4, [TRIAL]).save()
    with pytest.raises(CorralError, match="another seed, requests; give the same, or leave out --resume") as raised:
        taken_up(path, {**SETTINGS, "seed": 2, "requests": 300})
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}, "start_rpm": 1, "unloaded_s": 1, "trials": [{"x": 1}]}'])
def test_a_file_that_cannot_be_read_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(CorralError, match=r"cannot be taken up .*leave out --resume"):
        taken_up(path, SETTINGS)
