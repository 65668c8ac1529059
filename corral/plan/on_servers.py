"""What is to be said about servers, one finding for all of a placement: unknown models, containers, odd settings."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from corral.gguf.shape import model_shape
from corral.plan.figures import Edit, Finding, Level, Mend, PlannedServer
from corral.plan.known import Known
from corral.plan.shapes import DEFAULT_CACHE_RAM_MIB, unplanned_flags
from corral.plan.words import mib, server_names, up_to_mib
from corral.planner.memory import MIB
from corral.render.memory import cache_ram_mib
from corral.yamlfile import KeyPath


def server_findings(servers: Sequence[PlannedServer], known: Known, *, allow_unknown: bool) -> Iterator[Finding]:
    """Give what is found about the servers of each placement and about each model."""
    for alike in placements(servers):
        first = alike[0]
        if first.estimate is not None:
            if first.server.memory_mib is not None and first.server.host.runtime == "compose":
                yield from _container(alike)
        elif first.server.model.mode != "image":
            level: Level = "warning" if allow_unknown else "error"
            yield Finding(level, "unknown", _name(alike), _model_path(first), f"not planned: {first.unknown}")
    for name, server in {server.server.model_name: server for server in servers}.items():
        yield from _model(name, server, known)


def placements(servers: Sequence[PlannedServer]) -> list[tuple[PlannedServer, ...]]:
    """Return the servers in groups of one placement, which are all alike."""
    found: dict[int, list[PlannedServer]] = {}
    for server in servers:
        found.setdefault(server.server.placement, []).append(server)
    return [tuple(group) for group in found.values()]


def _container(alike: Sequence[PlannedServer]) -> Iterator[Finding]:
    first = alike[0]
    limit = (first.server.memory_mib or 0) * MIB
    path = memory_path(first)
    if first.host_bytes > limit:
        with_prompts = f" with a prompt cache of {first.cache_ram_mib:,}" if first.cache_ram_mib else ""
        yield _with_mends(
            Finding(
                "error", "container-small", _name(alike), path,
                f"{mib(first.host_bytes)} MiB of host memory are needed{with_prompts}, "
                f"and the container's limit is {mib(limit)}",
            ),
            _container_mends(first, limit),
        )  # fmt: skip
        return
    given = first.server.model.cache_ram_mib
    if given is not None and given > first.cache_ram_mib and first.server.model.mode == "chat":
        text = f"set cache_ram_mib of {first.server.model_name} to {first.cache_ram_mib}"
        yield Finding(
            "warning", "cache-lowered", _name(alike), ("models", first.server.model_name, "cache_ram_mib"),
            f"a prompt cache of {given:,} MiB is more than the container of {mib(limit)} leaves: it gets "
            f"{first.cache_ram_mib:,}",
            f"{text}, or memory_mib higher",
            (Mend(text, (Edit(("models", first.server.model_name, "cache_ram_mib"), first.cache_ram_mib),)),),
        )  # fmt: skip
    if first.fixed_bytes + first.mapped_bytes > limit:
        enough = up_to_mib(first.fixed_bytes + first.mapped_bytes)
        yield Finding(
            "warning", "weights-dropped", _name(alike), path,
            f"the container's limit of {mib(limit)} MiB holds the {mib(first.fixed_bytes)} it must have, and not the "
            f"{mib(first.mapped_bytes)} of mapped weights besides: they are read from the disk again and again",
            f"set memory_mib to {enough} or more",
            (Mend(f"set memory_mib to {enough}", (Edit(path, enough),)),),
        )  # fmt: skip
    elif first.on_cpu and first.host_bytes + first.mapped_bytes > limit:
        most = (limit - first.fixed_bytes - first.mapped_bytes) // MIB
        edit = Edit(("models", first.server.model_name, "cache_ram_mib"), most)
        yield _with_mends(
            Finding(
                "warning", "weights-dropped", _name(alike), path,
                f"a full prompt cache of {first.cache_ram_mib:,} MiB pushes mapped weights ({mib(first.mapped_bytes)}) "
                f"out of the container's {mib(limit)}: they are read from the disk again and again",
            ),
            (Mend(f"set cache_ram_mib of {first.server.model_name} to {most}", (edit,)),),
        )  # fmt: skip


def _container_mends(server: PlannedServer, limit: int) -> tuple[Mend, ...]:
    """Return a smaller prompt cache, if that is enough, and a larger container.

    A cache whose size the file leaves open grows with its container, so there its size is given as well.
    """
    name, mends = server.server.model_name, []
    path = ("models", name, "cache_ram_mib")
    if server.fixed_bytes <= limit:
        most = (limit - server.fixed_bytes) // MIB
        mends.append(Mend(f"set cache_ram_mib of {name} to {most}", (Edit(path, most),)))
    given = server.server.model.cache_ram_mib
    cache = min(server.cache_ram_mib, DEFAULT_CACHE_RAM_MIB) if given is None else given
    enough = up_to_mib(server.fixed_bytes + cache * MIB)
    larger = Edit(memory_path(server), enough)
    if given is None and (cache_ram_mib(replace(server.server, memory_mib=enough)) or 0) > cache:
        mends.append(Mend(f"set memory_mib to {enough} and cache_ram_mib to {cache}", (larger, Edit(path, cache))))
    else:
        mends.append(Mend(f"set memory_mib to {enough}", (larger,)))
    return tuple(mends)


def _with_mends(finding: Finding, mends: tuple[Mend, ...]) -> Finding:
    said = ", or ".join(mend.text for mend in mends)
    return Finding(finding.level, finding.code, finding.where, finding.path, finding.what, said, mends)


def _model(name: str, server: PlannedServer, known: Known) -> Iterator[Finding]:
    model = server.server.model
    path: KeyPath = ("models", name)
    if flags := unplanned_flags(model):
        yield Finding(
            "warning", "flags", name, (*path, "extra_args"), f"what {', '.join(flags)} changes is not planned",
            "compare with llama-server's own figures: corral plan --confirm",
        )  # fmt: skip
    if model.projector is not None and name not in known.projectors and server.estimate is not None:
        yield Finding(
            "warning", "projector", name, (*path, "projector"),
            f"its projector is not planned: {model.projector.path} is not here", "put it there, or leave room for it",
        )  # fmt: skip
    header = known.headers.get(name)
    if header is None or server.estimate is None or any("rope" in line or "yarn" in line for line in model.extra_args):
        return
    trained = model_shape(header).context_train
    if 0 < trained < model.context:
        yield Finding(
            "warning", "context-long", name, (*path, "context"),
            f"context {model.context:,} is over the {trained:,} tokens that it was trained for",
            f"set it to {trained} or less",
            (Mend(f"set context of {name} to {trained}", (Edit((*path, "context"), trained),)),),
        )  # fmt: skip


def memory_path(server: PlannedServer) -> KeyPath:
    """Return where the file limits its container."""
    if server.server.memory_mib != server.server.model.memory_mib:
        return (*server.server.path, "memory_mib")
    return ("models", server.server.model_name, "memory_mib")


def _model_path(server: PlannedServer) -> KeyPath:
    return ("models", server.server.model_name, "source")


def _name(alike: Sequence[PlannedServer]) -> str:
    return server_names([server.server.name for server in alike])
