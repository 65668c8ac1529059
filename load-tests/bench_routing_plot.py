"""The plot of `make bench-routing`: mean time to the first token and cached share, by workload and router."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from bench_routing_chats import Summary
from bench_routing_workloads import Rounds

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(found: Sequence[Rounds], to: Path) -> None:
    """Draw the rounds of a run as points over bars of their means.

    Args:
        found: of all routers and workloads.
        to: the file; its ending gives the format.
    """
    workloads = list(dict.fromkeys((one.servers, one.kind, one.workload) for one in found))
    routers = list(dict.fromkeys(one.router for one in found))
    figure, axes = plt.subplots(2, 1, figsize=(11, 8), layout="constrained")
    for axis, field, title in (
        (axes[0], "ttft_mean_s", "mean time to the first token, s"),
        (axes[1], "cached_share", "cached share of prompt tokens"),
    ):
        width = 0.8 / len(routers)
        for number, router in enumerate(routers):
            for place, workload in enumerate(workloads):
                values = [getattr(one, field) for one in _rounds(found, workload, router)]
                x = place + (number - (len(routers) - 1) / 2) * width
                label = router if not place else None
                axis.bar(x, sum(values) / len(values), width * 0.95, color=f"C{number}", label=label)
                axis.plot([x] * len(values), values, "k.", markersize=4)
        axis.set_xticks(range(len(workloads)), [f"{servers} {kind},\n{name}" for servers, kind, name in workloads])
        axis.set_title(title)
    axes[0].legend(fontsize="small")
    figure.savefig(to)
    plt.close(figure)


def _rounds(found: Sequence[Rounds], workload: tuple[int, str, str], router: str) -> tuple[Summary, ...]:
    for one in found:
        if ((one.servers, one.kind, one.workload), one.router) == (workload, router):
            return one.rounds
    raise LookupError(f"no rounds of {workload} under {router}")
