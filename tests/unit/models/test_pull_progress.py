"""How downloads are shown: bars for people, a few lines for logs."""

import io

from rich.console import Console

from corral.models.pull_progress import Bars, Lines


def test_a_terminal_gets_a_bar_and_lines_above_it() -> None:
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=120, legacy_windows=False)) as bars:
        bars.advance("llama", 430_000_000, 1_000_000_000)
        bars.say("llama", "the connection broke [once]")
        bars.advance("nomic", 10, None)  # of unknown size
    shown = screen.getvalue()
    assert "43%" in shown
    assert "0.4/1.0 GB" in shown
    assert "llama: the connection broke [once]" in shown


def test_a_model_that_is_done_has_no_bar_any_more() -> None:
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=120, legacy_windows=False)) as bars:
        bars.advance("llama", 1, 2)
        bars.end("llama")
        bars.end("found")  # never had one
        screen.truncate(0)
    assert "llama" not in screen.getvalue()


def test_a_log_gets_a_line_now_and_then() -> None:
    log = io.StringIO()
    with Lines(Console(file=log, force_terminal=False, width=20)) as lines:
        for done in range(0, 1_000_000_000, 1_000_000):
            lines.advance("llama", done, 1_000_000_000)
        lines.advance("nomic", 5_000_000, None)
        lines.say("llama", "a line that is longer than the twenty columns of this console")
    assert log.getvalue().splitlines() == [
        "llama: 0 MB of 1.0 GB, 0 %",
        "nomic: 5 MB",
        "llama: a line that is longer than the twenty columns of this console",
    ]
