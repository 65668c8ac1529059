"""What must not change over a long run: memory, descriptors, restarts, latency."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from corral.bench.compare import LEAST_VALUES, ratio_of_medians
from corral.bench.store import Sample
from corral.loadtest.watch import Watched

WARM_SHARE = 1 / 3
"""Of a run, the beginning in which caches and pools fill."""
MEMORY_GROWTH, MEMORY_GROWTH_MIB = 0.2, 50
DESCRIPTOR_GROWTH, DESCRIPTOR_GROWTH_SHARE = 20, 0.5
LATENCY_GROWTH = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was judged."""

    what: str
    found: str
    good: bool


def findings(watched: Watched, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Judge a run; what was not seen is not judged."""
    for name in watched.looks:
        warm, last = watched.after(name, WARM_SHARE), watched.last(name)
        grown = last.memory_mib - warm.memory_mib
        within = grown <= max(MEMORY_GROWTH_MIB, MEMORY_GROWTH * warm.memory_mib)
        yield Finding(f"{name}: memory", f"{warm.memory_mib} MiB, then {last.memory_mib} MiB", within)
        more = last.descriptors - warm.descriptors
        yield Finding(f"{name}: descriptors", f"{warm.descriptors}, then {last.descriptors}", more <= DESCRIPTOR_GROWTH)
        restarts = last.restarts - watched.looks[name][0].restarts
        yield Finding(f"{name}: restarts", str(restarts), restarts == 0)
    for (metric, model), values in _by_metric(samples).items():
        third = len(values) // 3
        if third < LEAST_VALUES:
            continue
        interval = ratio_of_medians(values[:third], values[-third:])
        said = f"x {interval.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"
        yield Finding(
            f"{model}: {metric.removesuffix('_ms')}, last third over first", said, interval.low <= 1 + LATENCY_GROWTH
        )


def _by_metric(samples: Sequence[Sample]) -> Mapping[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for sample in samples:
        found.setdefault((sample.metric, sample.subject), []).append(sample.value)
    return found
