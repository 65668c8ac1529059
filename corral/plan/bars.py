"""A bar of letters: how full a memory is, and of what; readable without colour."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.plan.figures import PlannedGpu, PlannedHost, PlannedServer
from corral.planner.memory import MIB

WIDTH = 40
WEIGHTS, CACHE, COMPUTE, PROMPTS, OTHER, FREE, MARGIN, TOO_MUCH = "W", "K", "C", "P", "D", ".", "m", "!"
LEGEND = {
    WEIGHTS: "weights",
    CACHE: "KV cache",
    COMPUTE: "compute",
    PROMPTS: "prompt caches",
    OTHER: "driver, programs, other containers",
    FREE: "free",
    MARGIN: "margin",
    TOO_MUCH: "too much",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a memory."""

    letter: str
    bytes: int


def gpu_parts(servers: Sequence[PlannedServer]) -> list[Part]:
    """Return what servers put on their GPU, by kind."""
    known = [server.estimate.gpu for server in servers if server.estimate]
    return [
        Part(WEIGHTS, sum(gpu.weights for gpu in known)),
        Part(CACHE, sum(gpu.cache for gpu in known)),
        Part(COMPUTE, sum(gpu.compute + gpu.scratch for gpu in known)),
        Part(OTHER, sum(gpu.driver + gpu.projector for gpu in known)),
    ]


def host_parts(host: PlannedHost) -> list[Part]:
    """Return what takes a host's memory, by kind; mapped weights come last, for they give way."""
    known = [server.estimate.host for server in host.servers if server.estimate]
    cache = sum(part.cache for part in known)
    compute = sum(part.compute + part.output for part in known)
    prompts = sum(server.cache_ram_mib * MIB for server in host.servers if server.estimate)
    return [
        Part(CACHE, cache),
        Part(COMPUTE, compute),
        Part(PROMPTS, prompts),
        Part(OTHER, host.need_bytes - cache - compute - prompts),
        Part(WEIGHTS, host.mapped_bytes),
    ]


def bar(parts: Sequence[Part], total: int, margin: int = 0, width: int = WIDTH) -> str:
    """Return a bar of `width` letters for `total` bytes; then a `!` for each cell too many, at most `width` / 4."""
    used = sum(part.bytes for part in parts)
    letters = [_letter(parts, used, (place + 0.5) * total / width, total - margin) for place in range(width)]
    too_much = max(0, -(-(used - total) * width // total)) if total else 0
    return "".join(letters) + TOO_MUCH * min(too_much, width // 4)


def gpu_bar(gpu: PlannedGpu, width: int = WIDTH) -> str:
    """Return a GPU's bar."""
    return bar(gpu_parts(gpu.servers), gpu.memory_bytes, gpu.margin_bytes, width)


def _letter(parts: Sequence[Part], used: int, at: float, margin_begins: int) -> str:
    if at >= used:
        return MARGIN if at >= margin_begins else FREE
    end = 0
    for part in parts:
        end += part.bytes
        if at < end:
            return part.letter
    return FREE
