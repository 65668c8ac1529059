"""What is right in each place of a farm file and cannot work as a whole: addresses, paths, flags, keys, names.

Looked for where nothing else is wrong, since it looks at the servers that the file gives.
"""

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from corral.farm.file import FarmFile
from corral.farm.owned_flags import OWNED_FLAGS
from corral.farm.secret_names import DATABASE_PASSWORD, DATABASE_URL, GATE_SECRETS, REDIS_PASSWORD
from corral.farm.servers import servers_of
from corral.farm.values import is_loopback
from corral.models.sources import PathSource
from corral.yamlfile import KeyPath, Problem

_OF_THE_FARM = {*GATE_SECRETS, DATABASE_PASSWORD, REDIS_PASSWORD, DATABASE_URL}
_FROM_ENVIRONMENT = "os.environ/"


def conflicts(farm: FarmFile) -> Iterator[Problem]:
    """Give what keeps a farm whose parts are in order from working."""
    yield from _addresses(farm)
    yield from _paths(farm)
    yield from _flags(farm)
    yield from _providers(farm)
    yield from _server_names(farm)
    yield from _langfuse(farm)


def _addresses(farm: FarmFile) -> Iterator[Problem]:
    """A loopback address leads another host to itself."""
    askers = ({farm.monitoring_host: "Prometheus"} if farm.monitoring else {}) | {farm.gate_host: "the gate"}
    for name in dict.fromkeys(placement.host for placement in farm.servers):
        for asker, who in askers.items():
            if asker != name and is_loopback(farm.hosts[name].address):
                what = f"is a loopback address, and {who} asks its servers from {asker}"
                yield Problem.at(("hosts", name, "address"), what, f"give the address at which {asker} reaches {name}")
                break


def _paths(farm: FarmFile) -> Iterator[Problem]:
    """A container sees its host's files; the farm file's folder is somewhere else."""
    in_containers = {each.model for each in farm.servers if farm.hosts[each.host].runtime == "compose"}
    for name, model in farm.models.items():
        for key, source in (("source", model.source), ("projector", model.projector)):
            if name not in in_containers or not isinstance(source, PathSource):
                continue
            if not PurePosixPath(source.path).is_absolute():
                path: KeyPath = ("models", name, key, "path")
                mend = "give its absolute path on the host of its servers"
                yield Problem.at(path, "is relative to the farm file, which a container cannot see", mend)


def _flags(farm: FarmFile) -> Iterator[Problem]:
    for name, model in farm.models.items():
        path: KeyPath = ("models", name, "extra_args")
        try:
            shlex.split(" ".join(model.extra_args))
        except ValueError as error:
            yield Problem.at(path, f"cannot be split into words: {str(error).lower()}", "quote as for a shell")
            continue
        for place, line in enumerate(model.extra_args):
            for flag in _flags_in(line):
                if instead := OWNED_FLAGS.get(flag):
                    yield Problem.at((*path, place), f"{flag} is set by Corral", f"say it by {instead}")


def _flags_in(line: str) -> Iterator[str]:
    """Give the flags of a line; a quotation that goes on in the next one is not looked into."""
    try:
        words = shlex.split(line)
    except ValueError:
        return
    yield from (word.split("=", 1)[0] for word in words)


def _providers(farm: FarmFile) -> Iterator[Problem]:
    for name, provider in farm.providers.items():
        if provider.model.startswith(_FROM_ENVIRONMENT):
            yield Problem.at(
                ("providers", name, "model"), "is a value of the environment to LiteLLM, and would be sent away",
                "give LiteLLM's name of the model",
            )  # fmt: skip
        if provider.api_key_env in _OF_THE_FARM:
            yield Problem.at(
                ("providers", name, "api_key_env"), f"{provider.api_key_env} is the farm's own secret",
                "give the provider's key a name of its own",
            )  # fmt: skip


def _server_names(farm: FarmFile) -> Iterator[Problem]:
    """LiteLLM takes a deployment's id for a model's name: both at once would send requests to one server only."""
    ids = {server.name for server in servers_of(farm)}
    for section, parts in (("models", farm.models), ("providers", farm.providers)):
        for name, part in parts.items():
            if name in ids:
                yield Problem.at((section, name), f"{name} is the name of a server too", "rename it", on_key=True)
            for place, alias in enumerate(part.aliases):
                if alias in ids:
                    what = f"{alias} is the name of a server too"
                    yield Problem.at((section, name, "aliases", place), what, "take another alias")


def _langfuse(farm: FarmFile) -> Iterator[Problem]:
    traces = farm.langfuse
    if traces is None:
        return
    for key in ("public_key_env", "secret_key_env"):
        if (name := getattr(traces, key)) in _OF_THE_FARM:
            yield Problem.at(("langfuse", key), f"{name} is the farm's own secret", "give Langfuse's a name of its own")
    if traces.host is None:
        if traces.url is None:
            mend = "add host: NAME to run it there, or url: of one that runs"
            yield Problem.at(("langfuse",), "says neither where Langfuse is nor where to run it", mend, on_key=True)
        return
    if farm.hosts[traces.host].runtime != "compose":
        mend = "name a compose host, or give url: of one that runs"
        yield Problem.at(("langfuse", "host"), f"Langfuse is containers, and {traces.host} runs processes", mend)
        return
    address = traces.listen or farm.hosts[traces.host].address
    beside_gate = traces.host == farm.gate_host and _listens_on_loopback(farm, farm.gate_host)
    if traces.url is None and is_loopback(address) and not beside_gate:
        what = f"listens on {address}, where the gate cannot reach it"
        mend = "give listen: an address of its host, or url:"
        yield Problem.at(("langfuse", "listen" if traces.listen else "host"), what, mend)


def _listens_on_loopback(farm: FarmFile, host: str) -> bool:
    """Whether GPU servers there do: the gate then uses its host's network (`render.proxy_host.on_host_network`)."""
    return is_loopback(farm.hosts[host].address) and any(each.host == host for each in farm.servers)
