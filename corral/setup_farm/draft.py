"""The farm file for a machine: what is placed where, and its text. Pure: no looking, no writing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from corral.errors import CorralError
from corral.farm.gate import Proxy
from corral.farm.host import Gpu
from corral.farm.model import Model
from corral.paths import CHECKOUT
from corral.setup_farm import presets
from corral.setup_farm.presets import EMBED, EMBED_NAME, ON_CPU, PACKAGED, PATIENT, Fits, Preset, estimated_fit
from corral.setup_farm.surroundings import Surroundings

HOST = "here"
FIRST_PORT = 8080
FIRST_EMBEDDING_PORT = 8090
CPU_SERVERS = 2

GATE_MIB = 970
"""LiteLLM and PostgreSQL, measured."""
PACKAGED_MIB, EMBED_MIB = 510, 220
"""One packaged server with its wrapper, measured."""


@dataclass(frozen=True)
class Answers:
    """What is asked: the farm's name, its chat model, the gate's port."""

    name: str
    preset: Preset
    port: int


@dataclass(frozen=True)
class Draft:
    """What a farm file is to hold.

    Attributes:
        cards: places of the cards that serve the chat model; none: it is served on the CPU.
        chat_ports: one for each chat server.
    """

    answers: Answers
    seen: Surroundings
    cards: tuple[int, ...]
    chat_ports: tuple[int, ...]
    embed_port: int
    database_port: int


def default_preset(seen: Surroundings, fits: Fits = estimated_fit) -> Preset:
    """Return the model for this machine: the best for its cards where they can serve, else the packaged one."""
    found = presets.best(seen.gpus, fits) if seen.serves_on_gpus else None
    return found or PACKAGED


def fitting(seen: Surroundings, preset: Preset, fits: Fits = estimated_fit) -> tuple[int, ...]:
    """Return the places of the cards that can serve a preset."""
    if not seen.serves_on_gpus:
        return ()
    return tuple(place for place, gpu in enumerate(seen.gpus) if fits(preset, gpu))


def fits_cpu(seen: Surroundings, preset: Preset) -> bool:
    """Return whether the CPU's memory holds one server of a preset and all that stands beside it."""
    return preset.is_packaged or preset.needs_mib + GATE_MIB + EMBED_MIB <= seen.memory_available_mib


def free_gate_port(seen: Surroundings) -> int:
    """Return the gate's usual port, or the next one that is free."""
    return Ports(seen.is_free, set()).take(Proxy().port)


def draft(seen: Surroundings, answers: Answers, fits: Fits = estimated_fit) -> Draft:
    """Place the models on the machine, on ports that are free.

    Raises:
        CorralError: the chosen model fits neither a card nor the memory; the gate's port is taken; no port is free.
    """
    preset = answers.preset
    cards = fitting(seen, preset, fits)
    if not cards and not fits_cpu(seen, preset):
        fallback = default_preset(seen, fits)
        raise CorralError(
            f"{preset.name} takes about {preset.needs_mib:,} MiB, which neither a usable GPU nor the memory has",
            f"choose another one: --models {fallback.name} fits",
            exit_code=2,
        )
    if not seen.is_free(answers.port):
        raise CorralError(f"port {answers.port} is taken", "name another one with --port", exit_code=2)
    taken = {answers.port}
    ports = Ports(seen.is_free, taken)
    chats = tuple(ports.take(FIRST_PORT) for _ in range(len(cards) or _cpu_servers(seen, preset)))
    return Draft(
        answers=answers,
        seen=seen,
        cards=cards,
        chat_ports=chats,
        embed_port=ports.take(max(FIRST_EMBEDDING_PORT, chats[-1] + 1)),
        database_port=ports.take(Proxy().database_port),
    )


def _cpu_servers(seen: Surroundings, preset: Preset) -> int:
    if not preset.is_packaged:
        return 1
    room = seen.memory_available_mib - GATE_MIB - EMBED_MIB
    return CPU_SERVERS if room >= CPU_SERVERS * PACKAGED_MIB else 1


class Ports:
    """Gives out ports that are free, each once."""

    def __init__(self, is_free: Callable[[int], bool], taken: set[int]) -> None:
        self._is_free = is_free
        self._taken = taken

    def take(self, first: int) -> int:
        """Return the next port from `first` on.

        Raises:
            CorralError: none of the next 500 is free.
        """
        for port in range(first, min(first + 500, 65536)):
            if port not in self._taken and self._is_free(port):
                self._taken.add(port)
                return port
        raise CorralError(f"no port is free from {first} on", "stop what listens there: `ss -ltnp`")


def text(plan: Draft, folder: Path) -> str:
    """Return the farm file.

    Args:
        plan: what it holds.
        folder: where it will lie; its first line leads from there to the schema.
    """
    sections = "\n".join(_section(comment, content) for comment, content in _sections(plan))
    return f"# yaml-language-server: $schema={_schema_from(folder)}\n{sections}"


def _schema_from(folder: Path) -> str:
    schema = CHECKOUT / "farms" / "corral.schema.json"
    if folder.resolve().is_relative_to(CHECKOUT):
        return quote(os.path.relpath(schema, folder.resolve()))
    return schema.as_uri()


def _section(comment: str, content: dict[str, Any]) -> str:
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _sections(plan: Draft) -> Iterator[tuple[str, dict[str, Any]]]:
    yield _INTRODUCTION, {"name": plan.answers.name}
    yield _hosts_comment(plan), {"hosts": {HOST: _host(plan.seen)}}
    preset = plan.answers.preset
    chat = preset.model if plan.cards else preset.model.model_copy(update={"objectives": ON_CPU, "serving": PATIENT})
    models = {preset.name: _given(chat), EMBED_NAME: _given(EMBED)}
    yield _models_comment(preset), {"models": models}
    yield "What runs where: a server for each card or port.", {"servers": list(_servers(plan))}
    yield _GATE, {"proxy": {"port": plan.answers.port, "database_port": plan.database_port}}


_INTRODUCTION = """\
The farm of this machine, as `corral init` found it. Change what you like: `corral validate` says whether it is right,
docs/farm-file-reference.md what there is. It holds no secret, and must not."""

_GATE = """\
The one address that applications know. It listens on this machine's loopback; to open it to a network, put a reverse
proxy with TLS before it."""


def _hosts_comment(plan: Draft) -> str:
    seen = plan.seen
    if seen.gpus and not seen.serves_on_gpus:
        which = f"{seen.llama_server} cannot use them" if seen.llama_server else "the packaged llama-server cannot"
        return (
            "This machine. Its GPUs are listed but not used:\n"
            f"{which}. Name one that can in LLAMA_SERVER, then `corral init --force`."
        )
    if idle := [place for place in range(len(seen.gpus)) if place not in plan.cards]:
        return f"This machine. No server on GPU {', '.join(map(str, idle))}: the model does not fit there."
    return "This machine; everything runs as processes of one user."


def _models_comment(preset: Preset) -> str:
    size = "" if preset.is_packaged else f"; about {preset.needs_mib:,} MiB a server, estimated"
    said = f"{preset.name}: {preset.title}{size}."
    embed = f"{EMBED_NAME}: all-MiniLM-L6-v2, 384 dimensions, on the CPU."
    return f"Clients ask for `chat` and `{EMBED_NAME}`.\n{said}\n{embed}"


def _host(seen: Surroundings) -> dict[str, Any]:
    host: dict[str, Any] = {"runtime": "processes", "cores": seen.cores, "memory_mib": seen.memory_mib}
    if seen.gpus:
        host["gpus"] = [_card(gpu) for gpu in seen.gpus]
    return host


def _card(gpu: Gpu) -> dict[str, Any]:
    card = gpu.model_dump(exclude_defaults=True)
    return {key: card[key] for key in ("name", *card) if key in card}


def _given(model: Model) -> dict[str, Any]:
    """Return what is said of a model: what it is not by default, and what its reader looks for first."""
    data = model.model_dump(mode="json", exclude_defaults=True)
    always = {"mode": model.mode, "source": data["source"], "context": model.context, "slots": model.slots}
    return always | data


def _servers(plan: Draft) -> Iterator[dict[str, Any]]:
    chat: dict[str, Any] = {"model": plan.answers.preset.name, "host": HOST}
    if plan.cards:
        chat["gpus"] = list(plan.cards)
    else:
        chat["count"] = len(plan.chat_ports)
    yield {**chat, "ports": _ports(plan.chat_ports)}
    yield {"model": EMBED_NAME, "host": HOST, "ports": plan.embed_port}


def _ports(ports: tuple[int, ...]) -> int | str | list[int]:
    first, last = ports[0], ports[-1]
    if len(ports) == 1:
        return first
    return f"{first}-{last}" if ports == tuple(range(first, last + 1)) else list(ports)
