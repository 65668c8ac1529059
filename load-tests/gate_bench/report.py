"""The figures as Markdown, and as a plot."""

from collections.abc import Mapping
from pathlib import Path

from gate_bench.figures import COSTED_STREAMS, PACED_STREAMS, RATE, Measured

DIRECT, INSTALLED, TUNED = "direct", "LiteLLM as installed", "LiteLLM tuned"
COSTS = {
    "CPU a request (ms)": "request_cpu_ms",
    "CPU a token, full speed (us)": "token_cpu_us",
    f"CPU a token, {COSTED_STREAMS} x {RATE}/s (us)": "paced_token_cpu_us",
    "requests a second": "requests_per_s",
    "tokens a second": "tokens_per_s",
    "memory (MiB)": "memory_mib",
}
ADDED = {
    "whole answer, 1 client": "answer_ms",
    **{f"first token, {streams} stream{'s' * (streams > 1)}": f"first_p50_ms.{streams}" for streams in PACED_STREAMS},
}

TIMES = {
    "beginning": "a paced token while all streams begin at once",
    "under_way": "a paced token while all streams are under way",
}


def markdown(measured: Mapping[str, Measured]) -> str:
    """Return the tables: costs and how far the rounds differ, what is added to the direct way, how late tokens come."""
    tables = (_costs(measured), _spreads(measured), _added(measured), *(_delays(measured, when) for when in TIMES))
    return "\n\n".join(tables)


def _costs(measured: Mapping[str, Measured]) -> str:
    """One row a way; in brackets, what share of LiteLLM's as installed, and as tuned, it is."""
    rows = [_row("median of the rounds", *COSTS), _row(*["---"] * (len(COSTS) + 1))]
    for title, one in measured.items():
        if title == DIRECT:
            continue
        rows.append(_row(title, *(_with_shares(title, one, name, measured) for name in COSTS.values())))
    return "\n".join(rows)


def _spreads(measured: Mapping[str, Measured]) -> str:
    rows = [_row("least to most of the rounds", *COSTS), _row(*["---"] * (len(COSTS) + 1))]
    for title, one in measured.items():
        if title != DIRECT:
            rows.append(_row(title, *(_span(one.spread(name)) for name in COSTS.values())))
    return "\n".join(rows)


def _span(spread: tuple[float, float] | None) -> str:
    return "" if spread is None else " to ".join(_shown(value) for value in spread)


def _shown(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _with_shares(title: str, one: Measured, name: str, measured: Mapping[str, Measured]) -> str:
    value = one.median(name)
    if value is None:
        return ""
    shown = _shown(value)
    if title == INSTALLED:
        return shown
    shares = [
        f"{value / base:.2f}"
        for other in (INSTALLED, TUNED)
        if other != title and (base := measured[other].median(name) if other in measured else None)
    ]
    return f"{shown} ({' / '.join(shares)})" if shares else shown


def _added(measured: Mapping[str, Measured]) -> str:
    rows = [_row("added to the direct way, p50 (ms)", *ADDED), _row(*["---"] * (len(ADDED) + 1))]
    direct = measured[DIRECT]
    for title, one in measured.items():
        if title == DIRECT:
            known = (direct.median(name) for name in ADDED.values())
            rows.append(_row("(direct)", *("" if value is None else f"{value:.2f}" for value in known)))
        else:
            rows.append(_row(title, *(_difference(one, direct, name) for name in ADDED.values())))
    return "\n".join(rows)


def _difference(one: Measured, direct: Measured, name: str) -> str:
    ours, base = one.median(name), direct.median(name)
    return "" if ours is None or base is None else f"{ours - base:+.2f}"


def _delays(measured: Mapping[str, Measured], when: str) -> str:
    """Nothing stands where there was no such time: with one stream, or if the first had ended when the last began."""
    titles = [f"{streams} stream{'s' * (streams > 1)}" for streams in PACED_STREAMS]
    rows = [_row(f"{TIMES[when]}, p50 / p99 (ms)", *titles), _row(*["---"] * (len(titles) + 1))]
    for title, one in measured.items():
        cells = []
        for streams in PACED_STREAMS:
            half, most = one.median(f"{when}_p50_ms.{streams}"), one.median(f"{when}_p99_ms.{streams}")
            cells.append("" if half is None or most is None else f"{half:.2f} / {most:.1f}")
        rows.append(_row(title, *cells))
    return "\n".join(rows)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def plot(measured: Mapping[str, Measured], path: Path) -> None:
    """Draw CPU a request and a token of each way, on logarithmic scales.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    names = dict(list(COSTS.items())[:3])
    titles = [title for title in measured if title != DIRECT]
    figure, axes = plt.subplots(1, len(names), figsize=(12, 3), sharey=True, layout="constrained")
    for axis, (label, name) in zip(axes, names.items(), strict=True):
        values = [measured[title].median(name) or 0.0 for title in titles]
        bars = axis.barh(titles, values, color=["#2a7" if "Corral" in title else "#89a" for title in titles])
        axis.bar_label(bars, fmt=lambda value: f"{value:,.2g}", padding=3)
        axis.set(xscale="log", title=label)
        axis.margins(x=0.2)
        axis.invert_yaxis() if axis is axes[0] else None
    figure.savefig(path)
    plt.close(figure)
