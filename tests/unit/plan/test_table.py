"""How a plan is shown: readable without colour, wide and plain when piped."""

import io
from typing import Any

from rich.console import Console

from corral.plan.bars import Part, bar
from corral.plan.figures import Plan
from corral.plan.table import show
from corral.plan.words import span
from support.plan_farms import one_gpu_farm, planned


def shown(plan: Plan, width: int = 200, **options: Any) -> str:
    out = io.StringIO()
    show(plan, Console(file=out, width=width, highlight=False, **options))
    return out.getvalue()


def test_a_bar_shows_parts_in_proportion_then_what_is_free_and_the_margin() -> None:
    parts = [Part("W", 50), Part("K", 20)]
    assert bar(parts, 100, margin=10, width=10) == "WWWWWKK..m"
    assert bar(parts, 100, width=10) == "WWWWWKK..."
    assert bar([], 100, margin=100, width=4) == "mmmm"


def test_a_bar_that_overflows_says_so_and_stays_short() -> None:
    assert bar([Part("W", 120)], 100, margin=10, width=10) == "WWWWWWWWWW!!"
    assert bar([Part("W", 100_000)], 100, width=10) == "W" * 10 + "!" * 2


def test_runs_of_numbers_are_joined() -> None:
    assert span([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"


def test_a_farm_that_fits() -> None:
    text = shown(planned(one_gpu_farm()))
    assert "box GPU 0" in text
    assert "It fits: 1 server on 1 host, and each GPU keeps its margin of 64 MiB." in text
    assert "\x1b" not in text


def test_what_does_not_fit_is_red_and_says_so_in_words_too() -> None:
    farm = one_gpu_farm(model={"context": 32_768, "slots": 16})
    assert "DOES NOT FIT" in shown(planned(farm))
    assert "It does not fit: 1 error" in shown(planned(farm))
    assert "\x1b[1;31m" in shown(planned(farm), force_terminal=True, color_system="standard")


def test_names_are_text_and_no_markup() -> None:
    farm = one_gpu_farm(gpus=(), host={"gpus": [{"memory_mib": 4096, "name": "[red]card[/red]"}]})
    assert "[red]card[/red]" in shown(planned(farm))


def test_on_a_narrow_terminal_no_figure_and_no_bar_is_cut_off() -> None:
    servers = [{"gpus": [0, 1, 2], "ports": "8080-8082", "name": "a-rather-long-name"}]
    plan = planned(one_gpu_farm(gpus=(12_288,) * 3, servers=servers))
    narrow = shown(plan, 80)
    assert "…" not in narrow
    assert "a-rather-long-name-1..3" in narrow
    tables = narrow.partition("note:")[0].splitlines()
    assert max(len(line) for line in tables) <= 80
    assert narrow.count(f"{312:,}") == shown(plan).count(f"{312:,}") == 4
