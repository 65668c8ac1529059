"""Outcomes as rows of a table."""

from collections.abc import Sequence

from routing_sim.outcome import Outcome

HEAD = (
    "workload", "policy", "TTFT mean", "median", "p95", "p99", "whole answer", "cached of best", "prefill work",
    "uneven", "by work", "prefill busy", "refused", "failed",
)  # fmt: skip
DETAILS_HEAD = ("workload", "policy", "TTFT p25", "median", "p75", "p90", "whole answer p95")
SPEEDS_HEAD = (
    "workload", "policy", "speed", "requests", "work", "TTFT mean", "wait", "expected", "prefill", "expected",
    "slot held", "expected",
)  # fmt: skip


def head(columns: Sequence[str]) -> str:
    """Return a table's first two lines."""
    return f"{_row(columns)}\n|{'---|' * len(columns)}"


def row(workload: str, policy: str, one: Outcome, base: Outcome) -> str:
    """Return an outcome's row under HEAD; `base` is what its prefill work is compared with."""
    return _row(
        (
            workload, policy, _s(one.ttft_mean_s), _s(one.ttft_median_s), _s(one.ttft_p95_s), _s(one.ttft_p99_s),
            _s(one.whole_mean_s), f"{one.cached_of_best:.0%}" if one.cached_of_best else "-",
            f"{one.prefilled_tokens / base.prefilled_tokens:.2f}", f"{one.uneven:.0%}", f"{one.uneven_work:.0%}",
            f"{one.utilisation:.0%}", str(one.refused), str(one.failed),
        )
    )  # fmt: skip


def details(workload: str, policy: str, one: Outcome) -> str:
    """Return the row under DETAILS_HEAD."""
    times = (one.ttft_p25_s, one.ttft_median_s, one.ttft_p75_s, one.ttft_p90_s, one.whole_p95_s)
    return _row((workload, policy, *map(_s, times)))


def of_speeds(workload: str, policy: str, one: Outcome) -> list[str]:
    """Return a row under SPEEDS_HEAD for the servers of each speed."""
    rows = []
    for its in one.by_speed:
        told = its.believed
        figures = (
            (told.wait_s, told.wait_expected_s, told.prefill_s, told.prefill_expected_s, told.holding_s,
             told.holding_expected_s) if told else ()
        )  # fmt: skip
        shares = (f"{its.speed:g}", f"{its.requests:.2f}", f"{its.work:.2f}", _s(its.ttft_mean_s))
        rows.append(_row((workload, policy, *shares, *(map(_s, figures) if figures else ["-"] * 6))))
    return rows


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"
