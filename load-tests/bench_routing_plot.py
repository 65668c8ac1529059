"""The plot of `make bench-routing`: mean time to the first token and cached share, by workload and router."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(document: Sequence[Mapping[str, Any]], to: Path) -> None:
    """Draw the rounds of a run as points over bars of their means.

    Args:
        document: as `bench-results/routing.json`.
        to: the file; its ending gives the format.
    """
    workloads = list(dict.fromkeys(one["workload"] for one in document))
    routers = list(dict.fromkeys(one["router"] for one in document))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, field, title in (
        (axes[0], "ttft_mean_s", "mean time to the first token, s"),
        (axes[1], "cached_share", "cached share of prompt tokens"),
    ):
        width = 0.8 / len(routers)
        for number, router in enumerate(routers):
            for place, workload in enumerate(workloads):
                rounds = _rounds(document, workload, router)
                values = [one[field] for one in rounds]
                x = place + (number - (len(routers) - 1) / 2) * width
                label = router if not place else None
                axis.bar(x, sum(values) / len(values), width * 0.95, color=f"C{number}", label=label)
                axis.plot([x] * len(values), values, "k.", markersize=4)
        axis.set_xticks(range(len(workloads)), workloads)
        axis.set_title(title)
    axes[0].legend(fontsize="small")
    figure.savefig(to)
    plt.close(figure)


def _rounds(document: Sequence[Mapping[str, Any]], workload: str, router: str) -> list[Mapping[str, Any]]:
    for one in document:
        if (one["workload"], one["router"]) == (workload, router):
            return list(one["rounds"])
    raise LookupError(f"no rounds of {workload} under {router}")
