"""Gets the header of each model of a farm: given by hand, from the file that is here, else from where it comes from.

From a server, the header alone is fetched, by range requests; it is kept below `<state>/headers`, and asked for again
only if the server says that the file has changed. Models from one address are fetched once, all addresses at a time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from corral.errors import CorralError
from corral.farm.file import FarmFile
from corral.farm.model import Model
from corral.gguf.errors import GgufError
from corral.gguf.files import read_file
from corral.gguf.header import Header, assemble
from corral.gguf.parser import HEADER_LIMIT, IncompleteError, parse
from corral.gguf.remote import read_url
from corral.models.persistence import TransientError
from corral.models.records import Files
from corral.models.remote import Hub, client, look
from corral.models.sources import HubSource, PackageSource, PathSource, RemoteSource
from corral.models.wanted import Wanted
from corral.plan.header_cache import HeaderCache, Version
from corral.plan.known import Known

DEADLINE_S = 60.0


@dataclass(frozen=True)
class Places:
    """Where headers may come from.

    Attributes:
        base: the farm file's folder, for relative paths.
        models: the folder that models are pulled into.
        cache: headers that were fetched before.
        hub: the model hub.
        offline: ask no server.
        given: header files named by hand, by model.
    """

    base: Path
    models: Path
    cache: HeaderCache
    hub: Hub = field(default_factory=Hub)
    offline: bool = False
    given: Mapping[str, Path] = field(default_factory=dict)
    deadline_s: float = DEADLINE_S


@dataclass(frozen=True, slots=True)
class _Found:
    header: Header
    origin: str
    file: Path | None = None


async def headers_of(farm: FarmFile, places: Places) -> Known:
    """Return what can be known of the models that the farm serves.

    Raises:
        CorralError: a header file was named by hand for a model that the farm does not have, or it cannot be read.
    """
    served = {placement.model: farm.models[placement.model] for placement in farm.servers}
    served = {name: model for name, model in served.items() if model.mode != "image"}
    answers: dict[str, _Found | CorralError] = _given(farm, places)
    remote: dict[RemoteSource, list[str]] = {}
    for name, model in served.items():
        if name in answers:
            continue
        here = _look_here(name, model, farm, places)
        if here is not None:
            answers[name] = here
        elif isinstance(model.source, RemoteSource):
            remote.setdefault(model.source, []).append(name)
    for source, answer in zip(remote, await _fetch_all(list(remote), places), strict=True):
        answers |= dict.fromkeys(remote[source], answer)
    found = {name: answer for name, answer in answers.items() if isinstance(answer, _Found)}
    unknown = {name: answer for name, answer in answers.items() if isinstance(answer, CorralError)}
    return Known(
        headers={name: one.header for name, one in found.items()},
        unknown=unknown,
        projectors=_projectors(served, places),
        files={name: one.file for name, one in found.items() if one.file is not None},
        origins={name: one.origin for name, one in found.items()},
    )


def _given(farm: FarmFile, places: Places) -> dict[str, _Found | CorralError]:
    found: dict[str, _Found | CorralError] = {}
    for name, path in places.given.items():
        if name not in farm.models:
            mend = f"its models are {', '.join(farm.models)}"
            raise CorralError(f"--header names {name}, which is no model of the farm", mend, exit_code=2)
        origin = f"{path}, given by --header"
        try:
            found[name] = _Found(read_file(path), origin, path)
        except GgufError as error:
            header = _start_of_file(path)
            if header is None:
                raise CorralError(error.cause, error.mend, exit_code=2) from error
            found[name] = _Found(header, origin)
    return found


def _start_of_file(path: Path) -> Header | None:
    """Return the header of a file that is only the start of a model's; None if not even the header is whole."""
    try:
        with path.open("rb") as file:
            part = parse(file.read(HEADER_LIMIT), str(path))
        return assemble(str(path), [part], part.data_start + part.data_bytes)
    except (OSError, IncompleteError, GgufError):
        return None


def _look_here(name: str, model: Model, farm: FarmFile, places: Places) -> _Found | CorralError | None:
    """Return the header of a file on this machine, or why it cannot be read; None if a server must be asked."""
    try:
        return _local(name, model, farm, places)
    except CorralError as error:
        return error


def _local(name: str, model: Model, farm: FarmFile, places: Places) -> _Found | None:
    source = model.source
    if source is None:
        return None
    if isinstance(source, PackageSource | PathSource):
        path = Wanted(name, source, places.base).location(places.models)
        if not _is_there(path) and isinstance(source, PackageSource):
            raise GgufError(f"{path} is not made yet", f"corral models pull {name}")
        return _Found(read_file(path), str(path), path)
    for folder in _folders(name, farm, places):
        files = Files(folder, name)
        record = files.record()
        if _is_there(files.target) and (record is None or record.origin == source.origin):
            return _Found(read_file(files.target), str(files.target), files.target)
    return None


def _folders(name: str, farm: FarmFile, places: Places) -> list[Path]:
    """Return where a pulled model may lie: the folder here, and those of its hosts, if this is one of them."""
    hosts = dict.fromkeys(placement.host for placement in farm.servers if placement.model == name)
    return [places.models, *(Path(farm.hosts[host].models_dir) for host in hosts)]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that this user may not enter
        return False


def _projectors(served: Mapping[str, Model], places: Places) -> dict[str, int]:
    sizes = {}
    for name, model in served.items():
        if model.projector is not None:
            path = (places.base / model.projector.path).absolute()
            if _is_there(path):
                sizes[name] = path.stat().st_size
    return sizes


async def _fetch_all(sources: list[RemoteSource], places: Places) -> list[_Found | CorralError]:
    async with client() as web:
        return await asyncio.gather(*(_fetch(source, places, web) for source in sources))


async def _fetch(source: RemoteSource, places: Places, web: httpx.AsyncClient) -> _Found | CorralError:
    url = places.hub.url(source) if isinstance(source, HubSource) else source.url
    if places.offline:
        header = places.cache.find(url, None)
        if header is not None:
            return _Found(header, f"{source}, fetched before")
        return GgufError(f"the header of {source} is not here", "leave out --offline, or give it with --header")
    try:
        async with asyncio.timeout(places.deadline_s):
            return await _ask(source, url, places, web)
    except TimeoutError:
        return GgufError(
            f"{source} did not give its header in {places.deadline_s:g} s",
            "try again, pull the model, or give its header with --header",
        )
    except TransientError as error:
        return GgufError(str(error), "try again, or plan --offline with what was fetched before")
    except CorralError as error:
        return error


async def _ask(source: RemoteSource, url: str, places: Places, web: httpx.AsyncClient) -> _Found:
    """Fetch a header, unless the one that was kept is still of the file as it is now."""
    remote = await look(source, places.hub, web)
    version = Version(remote.validator, remote.size)
    kept = places.cache.find(url, version)
    if kept is not None:
        return _Found(kept, f"{source}, fetched before")
    header = await read_url(url, deadline_s=places.deadline_s, headers=remote.headers)
    places.cache.keep(url, version, header)
    return _Found(header, str(source))
