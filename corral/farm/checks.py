"""What no single part of a farm file can see: names that lead nowhere, servers in one another's way."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from corral.farm.crosschecks import conflicts
from corral.farm.file import FarmFile
from corral.farm.placement import Placement
from corral.farm.servers import base_name, places
from corral.yamlfile import KeyPath, Problem


def problems(farm: FarmFile) -> Iterator[Problem]:
    """Give all that is wrong with a farm file whose parts are each right."""
    yield from list(_misplaced(farm)) or conflicts(farm)


def _misplaced(farm: FarmFile) -> Iterator[Problem]:
    yield from _hosts_named(farm)
    yield from _placements(farm)
    yield from _one_runtime(farm)
    yield from _server_names(farm)
    yield from _ports(farm)
    yield from _models(farm)
    yield from _names(farm)
    yield from _fallbacks(farm)
    yield from _proxy(farm)


def _hosts_named(farm: FarmFile) -> Iterator[Problem]:
    if farm.proxy.host is not None and farm.proxy.host not in farm.hosts:
        yield _unknown(("proxy", "host"), "host", farm.proxy.host, farm.hosts)
    elif farm.proxy.host is None and len(farm.hosts) > 1:
        yield Problem.at(
            ("proxy",), "several hosts, and none named for the gate", "add proxy: {host: NAME}", on_key=True
        )
    if farm.monitoring and farm.monitoring.host is not None and farm.monitoring.host not in farm.hosts:
        yield _unknown(("monitoring", "host"), "host", farm.monitoring.host, farm.hosts)
    if farm.langfuse and farm.langfuse.host is not None and farm.langfuse.host not in farm.hosts:
        yield _unknown(("langfuse", "host"), "host", farm.langfuse.host, farm.hosts)


def _placements(farm: FarmFile) -> Iterator[Problem]:
    for number, placement in enumerate(farm.servers):
        path: KeyPath = ("servers", number)
        if placement.model not in farm.models:
            yield _unknown((*path, "model"), "model", placement.model, farm.models)
        if placement.host not in farm.hosts:
            yield _unknown((*path, "host"), "host", placement.host, farm.hosts)
            continue
        yield from _cards(farm, path, placement)
        if farm.hosts[placement.host].gpus == "detect" and placement.gpus == "all":
            continue  # how many there are, and so the ports that are used, is known on that machine only
        wanted = len(places(placement, farm.hosts[placement.host]))
        if len(placement.ports) != wanted:
            first = placement.ports[0]
            mend = f"{first}-{first + wanted - 1}" if wanted > 1 else f"{first}"
            yield Problem.at(
                (*path, "ports"),
                f"{_counted(len(placement.ports), 'port')} for {_counted(wanted, 'server')}",
                f"give {wanted}: {mend}",
            )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cards(farm: FarmFile, path: KeyPath, placement: Placement) -> Iterator[Problem]:
    host = farm.hosts[placement.host]
    if placement.count is not None and placement.gpus not in ((), "all"):
        yield Problem.at((*path, "count"), "gpus says how many servers already", "take count out")
    if placement.gpus == "all":
        if host.gpus == () and placement.count is None:
            yield Problem.at((*path, "gpus"), f"host {placement.host} has no GPUs", "list them there, or add count")
        return
    if placement.gpus and host.gpus == "detect":
        yield Problem.at(
            (*path, "gpus"), f"the GPUs of {placement.host} are detected, so none can be named", "write gpus: all"
        )
        return
    for place, card in enumerate(placement.gpus):
        if not 0 <= card < len(host.known_gpus):
            known = f"0 to {len(host.known_gpus) - 1}" if host.known_gpus else "none"
            yield Problem.at(
                (*path, "gpus", place), f"host {placement.host} has no GPU {card}", f"its GPUs are {known}"
            )
        if card in placement.gpus[:place]:
            yield Problem.at((*path, "gpus", place), f"GPU {card} is named twice", "name it once, or add a placement")


def _one_runtime(farm: FarmFile) -> Iterator[Problem]:
    local = [name for name, host in farm.hosts.items() if host.runtime == "processes"]
    for name in local:
        if len(farm.hosts) > 1:
            yield Problem.at(
                ("hosts", name, "runtime"), "runtime: processes is for a farm of one host",
                "use compose on every host of this one",
            )  # fmt: skip
    for number, placement in enumerate(farm.servers):
        model = farm.models.get(placement.model)
        if placement.host in local and model is not None and model.mode == "image":
            yield Problem.at(
                ("servers", number, "model"), "an image server is a container, and this host runs processes",
                "place it on a compose host",
            )  # fmt: skip


def _server_names(farm: FarmFile) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for number, placement in enumerate(farm.servers):
        base = base_name(placement)
        other = taken.setdefault(base, placement.model)
        if other != placement.model:
            yield Problem.at(
                ("servers", number, "name" if placement.name else "model"),
                f"servers of {other} are called {base}-1, {base}-2 already", "give these a name of their own",
            )  # fmt: skip


@dataclass(frozen=True)
class _Listener:
    """Something that listens on a port of a host."""

    what: str
    path: KeyPath


def _ports(farm: FarmFile) -> Iterator[Problem]:
    taken: dict[tuple[str, int], _Listener] = {}
    for host, port, listener in _listeners(farm):
        other = taken.setdefault((host, port), listener)
        if other is not listener:
            free = next(free for free in range(port + 1, 65536) if (host, free) not in taken) if port < 65535 else None
            mend = f"take another one, {free} is free" if free else "take another one"
            yield Problem.at(listener.path, f"port {port} of {host} is taken by {other.what}", mend)


def _listeners(farm: FarmFile) -> Iterator[tuple[str, int, _Listener]]:
    if farm.gate_host in farm.hosts:
        yield farm.gate_host, farm.proxy.port, _Listener("the gate", ("proxy", "port"))
        if farm.hosts[farm.gate_host].runtime == "processes":
            yield farm.gate_host, farm.proxy.database_port, _Listener("the database", ("proxy", "database_port"))
    if farm.monitoring is not None and farm.monitoring_host in farm.hosts:
        for key in ("prometheus_port", "alertmanager_port", "grafana_port"):
            port = getattr(farm.monitoring, key)
            yield farm.monitoring_host, port, _Listener(key.removesuffix("_port"), ("monitoring", key))
    if farm.langfuse is not None and farm.langfuse.host in farm.hosts:
        yield farm.langfuse.host, farm.langfuse.port, _Listener("langfuse", ("langfuse", "port"))
    for number, placement in enumerate(farm.servers):
        for place, port in enumerate(placement.ports):
            what = f"{base_name(placement)} (servers[{number}])"
            yield placement.host, port, _Listener(what, ("servers", number, "ports", place))


def _models(farm: FarmFile) -> Iterator[Problem]:
    served = {placement.model for placement in farm.servers}
    for name, model in farm.models.items():
        if name in served:
            continue
        if model.limits is not None:
            yield Problem.at(("models", name, "limits"), "limits of a model that no server serves", _PLACE)
        elif model.aliases:
            yield Problem.at(("models", name, "aliases"), "aliases of a model that no server serves", _PLACE)


_PLACE = "place it under servers, or take this out"


def _names(farm: FarmFile) -> Iterator[Problem]:
    """Clients know models, providers and aliases by name: each name must mean one thing."""
    owner: dict[str, str] = {name: f"the model {name}" for name in farm.models}
    for name in farm.providers:
        if name in owner:
            yield Problem.at(("providers", name), f"{name} is {owner[name]} already", "rename it", on_key=True)
        owner.setdefault(name, f"the provider {name}")
    for section, parts in (("models", farm.models), ("providers", farm.providers)):
        for name, part in parts.items():
            for place, alias in enumerate(part.aliases):
                mine = f"an alias of {name}"
                other = owner.setdefault(alias, mine)
                if other != mine or alias in part.aliases[:place]:
                    yield Problem.at(
                        (section, name, "aliases", place),
                        f"{alias} is {other} already",
                        "an alias belongs to one model",
                    )


def _fallbacks(farm: FarmFile) -> Iterator[Problem]:
    known = [*farm.models, *farm.providers]
    edges = farm.proxy.fallbacks
    for name, targets in edges.items():
        if name not in known:
            yield _unknown(("proxy", "fallbacks", name), "model", name, known, on_key=True)
        for place, target in enumerate(targets):
            path: KeyPath = ("proxy", "fallbacks", name, place)
            if target not in known:
                yield _unknown(path, "model", target, known)
            elif (circle := _way(edges, target, name)) is not None:
                said = " -> ".join([name, *circle])
                yield Problem.at(path, f"the fallbacks go in a circle: {said}", "take one of these steps out")


def _way(edges: dict[str, tuple[str, ...]], start: str, end: str) -> list[str] | None:
    """Return the steps from `start` to `end`, None if there is no way."""
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop()
        if way[-1] == end:
            return way
        for step in edges.get(way[-1], ()):
            if step not in seen:
                seen.add(step)
                ways.append([*way, step])
    return None


def _proxy(farm: FarmFile) -> Iterator[Problem]:
    if farm.proxy.workers > 1 and not farm.proxy.caching.redis:
        yield Problem.at(
            ("proxy", "workers"), "several workers count limits and load each for itself without Redis",
            "add caching: {redis: true, answers: false}, or have one worker",
        )  # fmt: skip
    yield from _caching(farm)
    on_processes = farm.gate_host in farm.hosts and farm.hosts[farm.gate_host].runtime == "processes"
    if on_processes and farm.proxy.caching.redis:
        yield Problem.at(("proxy", "caching", "redis"), "Redis comes with compose hosts only", "take it out")
    if on_processes and farm.proxy.listen != "127.0.0.1":
        yield Problem.at(
            ("proxy", "listen"), "the one-machine farm listens on the loopback only",
            "leave it 127.0.0.1, and put a reverse proxy with TLS before it",
        )  # fmt: skip


def _caching(farm: FarmFile) -> Iterator[Problem]:
    """Find settings of answers that nothing keeps."""
    caching = farm.proxy.caching
    if "answers" in caching.model_fields_set and caching.answers and not caching.redis:
        yield Problem.at(("proxy", "caching", "answers"), "answers are kept in Redis only", "add redis: true")
    if "ttl_s" in caching.model_fields_set and not (caching.redis and caching.answers):
        missing = [f"{name}: true" for name in ("redis", "answers") if not getattr(caching, name)]
        mend = f"set {' and '.join(missing)}, or take it out"
        yield Problem.at(("proxy", "caching", "ttl_s"), "no answers are kept", mend)


def _unknown(path: KeyPath, kind: str, name: str, known: Iterable[str], *, on_key: bool = False) -> Problem:
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    said = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(names[:20]) or 'none'}"
    return Problem.at(path, f"there is no {kind} {name}", said, on_key=on_key)
