"""Latency over load, the knee marked: one picture a model."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from corral.capacity.finding import Finding
from corral.capacity.verdict import Trial
from corral.errors import CorralError
from corral.render.k6 import ModelTarget


def check() -> None:
    """See that pictures can be drawn.

    Raises:
        CorralError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise CorralError("matplotlib is not installed", "run: scripts/bootstrap.sh load, or give --no-plot")


def plot(path: Path, model: ModelTarget, trials: Sequence[Trial], found: Finding) -> None:
    """Write a picture (its kind is the name's end: .svg, .png)."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ordered = sorted((trial for trial in trials if trial.ttft_p95_s is not None), key=lambda trial: trial.rate_rpm)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, style, values in (
        ("p95", "o-", [trial.ttft_p95_s or 0.0 for trial in ordered]),
        ("p50", "o--", [trial.ttft_p50_s or 0.0 for trial in ordered]),
    ):
        axes.plot([trial.rate_rpm for trial in ordered], values, style, label=f"time to first token, {name}")
    axes.axhline(model["objectives"]["ttft_p95_s"], color="tab:red", linestyle=":", label="objective of p95")
    if found.held_rpm is not None and found.broke_rpm is not None:
        axes.axvspan(found.held_rpm, found.broke_rpm, color="tab:orange", alpha=0.4, label="knee")
    if found.safe_rpm is not None:
        axes.axvline(found.safe_rpm, color="tab:green", linestyle="--", label=f"safe: {found.safe_rpm:.0f} a minute")
    axes.set_yscale("log")
    axes.set_xlabel("requests a minute, sent at random moments")
    axes.set_ylabel("seconds")
    axes.set_title(f"{model['name']}, {len(model['servers'])} servers of {model['slots']} slots in all")
    axes.legend()
    figure.savefig(path)
    plt.close(figure)
