"""What is to be said about hosts: memory, CPU threads, power, CUDA versions."""

import re
from collections.abc import Iterator, Sequence

from corral.plan.figures import Edit, Finding, Mend, PlannedHost, PlannedServer
from corral.plan.words import mib, span
from corral.planner.memory import MIB
from corral.yamlfile import KeyPath

# The oldest compute capability that a CUDA major version compiles for (release notes of CUDA 12.0 and 13.0).
_OLDEST_CAPABILITY = {12: (5, 0), 13: (7, 5)}
_CUDA = re.compile(r"cuda-?(\d{2})")


def host_findings(host: PlannedHost) -> Iterator[Finding]:
    """Give what is found about a host."""
    if host.servers:
        yield from _memory(host)
        yield from _threads(host)
    yield from _power(host)
    yield from _cuda(host)


def _path(host: PlannedHost, *rest: str | int) -> KeyPath:
    return ("hosts", host.name, *rest)


def _memory(host: PlannedHost) -> Iterator[Finding]:
    path = _path(host, "memory_mib")
    given = host.host.memory_mib
    if given is None:
        yield Finding(
            "note", "host-unknown", host.name, _path(host),
            f"memory_mib is not given: {mib(host.need_bytes)} are needed",
            "give it, and it is checked",
        )  # fmt: skip
        return
    memory = given * MIB
    if host.need_bytes > memory:
        excess = host.need_bytes - memory
        mends = _prompt_cache_mend(host, excess)
        yield Finding(
            "error", "host-full", host.name, path,
            f"{mib(host.need_bytes)} MiB of host memory are needed, and there are {given:,}",
            mends[0].text if mends else f"take away servers, or layers from the CPU, of {mib(excess)} MiB",
            mends,
        )  # fmt: skip
    elif host.limit_bytes > memory:
        yield Finding(
            "warning", "host-limits", host.name, path,
            f"the containers may grow to {mib(host.limit_bytes)} MiB together, and there are {given:,}",
            f"take {mib(host.limit_bytes - memory)} MiB off their memory_mib",
        )  # fmt: skip
    elif host.need_bytes + host.mapped_bytes > memory:
        yield Finding(
            "warning", "host-weights", host.name, path,
            f"{mib(host.need_bytes)} MiB are needed, and {mib(host.mapped_bytes)} of mapped weights do not fit beside "
            f"them into {given:,}: they are read from the disk again and again",
            "take smaller models, or more layers on the GPUs",
        )  # fmt: skip


def _prompt_cache_mend(host: PlannedHost, excess: int) -> tuple[Mend, ...]:
    """Return an equal, lower limit for all prompt caches of the host, if that is enough."""
    caches = sorted(server.cache_ram_mib for server in host.servers)
    if sum(caches) * MIB < excess:
        return ()
    limit = _level((sum(caches) * MIB - excess) // MIB, caches)
    lowered = {server.server.model_name for server in host.servers if server.cache_ram_mib > limit}
    edits = tuple(Edit(("models", name, "cache_ram_mib"), limit) for name in sorted(lowered))
    return (Mend(f"set cache_ram_mib of {', '.join(sorted(lowered))} to {limit}", edits),)


def _level(total: int, ascending: Sequence[int]) -> int:
    """Return the highest limit with which these sizes, cut down to it, are at most `total` together."""
    left = len(ascending)
    for size in ascending:
        if size * left > total:
            return total // left
        total -= size
        left -= 1
    return ascending[-1]


def _threads(host: PlannedHost) -> Iterator[Finding]:
    cores = host.host.cores
    if cores is None:
        return
    computing = [server for server in host.servers if server.on_cpu]
    threads = sum(server.threads or 0 for server in computing)
    if threads > cores and len(computing) > 1:
        yield _fewer_threads(
            host, computing, max(1, cores // len(computing)),
            f"{threads} threads of servers that compute on the CPU share {cores} cores",
        )  # fmt: skip
        return
    greedy = [server for server in host.servers if (server.threads or 0) > cores]
    if greedy:
        names = ", ".join(server.server.name for server in greedy)
        yield _fewer_threads(host, greedy, cores, f"{names} has more threads than there are cores, {cores}")


def _fewer_threads(host: PlannedHost, servers: Sequence[PlannedServer], most: int, what: str) -> Finding:
    models = sorted({server.server.model_name for server in servers if (server.threads or 0) > most})
    if not models:
        return Finding("note", "threads", host.name, _path(host, "cores"), what)
    text = f"set threads of {', '.join(models)} to {most}"
    edits = tuple(Edit(("models", name, "threads"), most) for name in models)
    return Finding("warning", "threads", host.name, _path(host, "cores"), what, text, (Mend(text, edits),))


def _power(host: PlannedHost) -> Iterator[Finding]:
    budget, gpus = host.host.power_budget_w, host.host.known_gpus
    if budget is None or not gpus:
        return
    path = _path(host, "power_budget_w")
    unlimited = [index for index, gpu in enumerate(gpus) if gpu.power_limit_w is None]
    if host.power_w > budget:
        share = budget // len(gpus)
        yield Finding(
            "error", "power", host.name, path,
            f"its GPUs may draw {host.power_w} W together, and the budget is {budget}",
            f"set their power_limit_w to {share} on average" if not unlimited else "lower their power_limit_w",
        )  # fmt: skip
    elif unlimited:
        yield Finding(
            "note", "power-unknown", host.name, path,
            f"GPU {span(unlimited)} has no power_limit_w: the sum of {host.power_w} W is not all", "give it one",
        )  # fmt: skip


def _cuda(host: PlannedHost) -> Iterator[Finding]:
    """Check the images' CUDA versions, as their names tell them, against the cards."""
    cards = {
        index: tuple(int(part) for part in gpu.compute_capability.split("."))
        for index, gpu in enumerate(host.host.known_gpus)
        if gpu.compute_capability
    }
    named = False
    for image, path in _images(host):
        if (found := _CUDA.search(image)) is None:
            continue
        named = named or path[0] == "hosts"
        version = int(found[1])
        oldest = _OLDEST_CAPABILITY.get(version)
        old = [index for index, capability in cards.items() if oldest and capability < oldest]
        if old:
            yield Finding(
                "error", "cuda", f"{host.name} GPU {span(old)}", path,
                f"compute capability {_dotted(cards[old[0]])} is too old for {image}: CUDA {version} begins at "
                f"{_dotted(oldest or ())}",
                "take an image with CUDA 12" if cards[old[0]] >= _OLDEST_CAPABILITY[12] else "take another GPU",
            )  # fmt: skip
    old = [index for index, capability in cards.items() if capability < _OLDEST_CAPABILITY[13]]
    if old and not named and host.servers:
        yield Finding(
            "note", "cuda-12", f"{host.name} GPU {span(old)}", _path(host, "gpus", old[0]),
            f"compute capability {_dotted(cards[old[0]])} needs a llama-server with CUDA 12: CUDA 13 begins at 7.5",
        )  # fmt: skip


def _images(host: PlannedHost) -> Iterator[tuple[str, KeyPath]]:
    for key in ("llama_server_base", "image"):
        if image := getattr(host.host, key):
            yield image, _path(host, key)
    for name, server in {server.server.model_name: server for server in host.servers}.items():
        if server.server.model.image and server.server.gpu_index is not None:
            yield server.server.model.image, ("models", name, "image")


def _dotted(capability: tuple[int, ...]) -> str:
    return ".".join(map(str, capability))
