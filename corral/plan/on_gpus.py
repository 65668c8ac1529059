"""What is to be said about GPUs: too full, not known how full, idle."""

from collections.abc import Iterator, Sequence

from corral.plan.figures import Finding, PlannedGpu
from corral.plan.words import mib, span

GPU_FULL = "gpu-full"


def gpu_findings(gpus: Sequence[PlannedGpu]) -> Iterator[Finding]:
    """Give what is found; GPUs with the same servers share a finding."""
    for alike in groups(gpus):
        first = alike[0]
        if not first.fits:
            yield _full(alike)
        elif not first.servers:
            yield Finding("note", "gpu-idle", gpus_name(alike), _hosts_gpus(first), "no server uses it")
        elif any(server.server.model.mode == "image" for server in first.servers):
            yield _beside_images(alike)


def groups(gpus: Sequence[PlannedGpu]) -> list[tuple[PlannedGpu, ...]]:
    """Return the GPUs in groups of one host, one size and the same servers' placements."""
    found: dict[tuple[object, ...], list[PlannedGpu]] = {}
    for gpu in gpus:
        placements = tuple(server.server.placement for server in gpu.servers)
        found.setdefault((gpu.host_name, gpu.gpu.memory_mib, placements), []).append(gpu)
    return [tuple(group) for group in found.values()]


def gpus_name(alike: Sequence[PlannedGpu]) -> str:
    """Return `gpu-box GPU 0-2`."""
    return f"{alike[0].host_name} GPU {span([gpu.index for gpu in alike])}"


def _full(alike: Sequence[PlannedGpu]) -> Finding:
    first = alike[0]
    parts = " + ".join(
        f"{server.server.name} {mib(server.gpu_bytes)}"
        for server in sorted(first.servers, key=lambda server: -server.gpu_bytes)
        if server.estimate
    )
    what = f"{mib(first.used_bytes)} of {first.gpu.memory_mib:,} MiB are needed ({parts})"
    if first.left_bytes < 0:
        what += f": {mib(-first.left_bytes)} too many, and a margin of {mib(first.margin_bytes)} should be left"
    else:
        what += f": that leaves {first.left_bytes // 2**20:,}, less than the margin of {mib(first.margin_bytes)}"
    largest = max(first.servers, key=lambda server: server.gpu_bytes, default=None)
    path = largest.server.path if largest else _hosts_gpus(first)
    return Finding("error", GPU_FULL, gpus_name(alike), path, what)


def _beside_images(alike: Sequence[PlannedGpu]) -> Finding:
    """Say what is left to image servers, whose memory nobody can tell before they have drawn one."""
    first = alike[0]
    names = ", ".join(server.server.name for server in first.servers if server.server.model.mode == "image")
    room = max(first.left_bytes - first.margin_bytes, 0) // 2**20
    alone = len(first.servers) == 1
    return Finding(
        "note" if alone else "warning",
        "gpu-images",
        gpus_name(alike),
        _hosts_gpus(first),
        f"what {names} takes of it is not planned; {room:,} MiB are there for that",
        "" if alone else "leave it the GPU for itself if that is not enough",
    )


def _hosts_gpus(gpu: PlannedGpu) -> tuple[str | int, ...]:
    return ("hosts", gpu.host_name, "gpus", gpu.index)
