"""What `corral apply` would do to a farm of containers: its rendered files and its hosts' engines, compared.

What runs is asked of each host's Docker engine; what is wanted, Compose says of the files that the farm file renders
to. A service whose digest differs is replaced. LiteLLM's configuration is a file that the gate reads at its start, so
the gate is replaced where that differs from the one on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml

from corral.apply.engine import Container, Engine, Project, Wanted
from corral.apply.history import History
from corral.envfile import parse_env
from corral.errors import CorralError
from corral.farm import FarmFile, Server, load_farm, servers_of
from corral.farm.host import Host
from corral.paths import StateDir
from corral.plan.check import check_plan
from corral.render import DEFAULT_TARGETS, render
from corral.render.nightly_dump import BACKUP
from corral.render.writing import Change, compare
from corral.yamlfile import YamlFileErrors

GATE = "litellm"
GATE_FILE = PurePosixPath("litellm/compose.yaml")
GATE_CONFIG = PurePosixPath("litellm/config.yaml")
KEY = "GPU_SERVER_KEY"
_LAST = {GATE: 1, BACKUP: 2}
"""Of the gate's services: the gate needs its database, and there is nothing to dump before it has made its tables."""
Doing = Literal["change", "add", "remove"]


@dataclass(frozen=True)
class Step:
    """One service to replace, start or remove.

    Args:
        doing: what.
        project: whose service it is.
        service: its name.
        wanted: what the file says of it; None for one that is removed.
        server: the farm's server; None for the gate's services, and for one that is removed.
        recreate: replace it although its digest is the same: a file that it read has changed.
    """

    doing: Doing
    project: Project
    service: str
    wanted: Wanted | None = None
    server: Server | None = None
    recreate: bool = False


@dataclass(frozen=True)
class PreparedHosts:
    """A change of a farm of containers that was checked and not begun.

    Args:
        farm: what it is to be.
        text: the farm file's.
        file: the farm file.
        out: the folder with the rendered files.
        files: what becomes of each of them.
        steps: in their order.
        alone: models whose only server restarts: they do not answer meanwhile.
        notes: what a person should know before it begins.
        key: of the gpu-servers.
    """

    farm: FarmFile
    text: str
    file: Path
    out: Path
    files: tuple[Change, ...]
    steps: tuple[Step, ...]
    alone: tuple[str, ...]
    notes: tuple[str, ...]
    key: str = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change, on disk or in an engine."""
        return not self.steps and all(change.state == "unchanged" for change in self.files)

    @property
    def gate_restarts(self) -> bool:
        """Whether the gate does not answer for a while."""
        return any(step.service == GATE and step.doing == "change" for step in self.steps)

    @property
    def summary(self) -> str:
        """One line for the history."""
        said: dict[Doing, str] = {"change": "changed", "add": "added", "remove": "removed"}
        named = {word: [step.service for step in self.steps if step.doing == doing] for doing, word in said.items()}
        return "; ".join(f"{word} {', '.join(names)}" for word, names in named.items() if names) or "files only"


def is_for_hosts(farm: FarmFile) -> bool:
    """Return whether a farm runs in containers, and not as processes of this machine."""
    return any(host.runtime == "compose" for host in farm.hosts.values())


def prepare(state: StateDir, file: Path, out: Path, environment: Mapping[str, str]) -> PreparedHosts:
    """Read and check the farm file, render it, and compare with the files and the containers that are there.

    Args:
        state: where the history lies.
        file: the farm file.
        out: the folder with the rendered files.
        environment: names the model hub.

    Raises:
        YamlFileErrors, CorralError: it cannot be applied; nothing was changed.
    """
    loaded = load_farm(file)
    farm = loaded.value
    check_plan(farm, file.parent, state.models, state.headers, environment)
    servers = {server.name: server for server in servers_of(farm)}
    files = compare(out, render(farm, DEFAULT_TARGETS), sorted(DEFAULT_TARGETS))
    last = _last_farm(state)
    notes: list[str] = []
    steps: list[Step] = []
    leaving: list[Step] = []
    checked: set[Engine] = set()
    for change in files:
        host = _host_of(change.path, farm, last)
        if host is None:
            continue
        project = _project(out, change, Engine.of_host(*host))
        if project.engine not in checked:
            project.engine.check()
            checked.add(project.engine)
        wanted = project.wanted(change.after) if change.after is not None else {}
        there = project.containers()
        _check_name(change, project)
        notes += _notes(change, project, there, wanted)
        reread = _gate_reads_anew(files) if change.path == GATE_FILE else ()
        steps += _steps(project, wanted, there, servers, reread)
        leaving += [Step("remove", project, name) for name in there if name not in wanted]
    place = {name: number for number, name in enumerate(servers)}
    ordered = sorted(steps, key=lambda step: (place.get(step.service, len(place)), _LAST.get(step.service, 0)))
    return PreparedHosts(
        farm=farm,
        text=loaded.source_text,
        file=file,
        out=out,
        files=files,
        steps=(*ordered, *leaving),
        alone=tuple(_alone(farm, steps)),
        notes=tuple(notes),
        key=_key(steps),
    )


def _last_farm(state: StateDir) -> FarmFile | None:
    history = History(state)
    entries = history.entries()
    try:
        return load_farm(history.path(entries[-1].number)).value if entries else None
    except YamlFileErrors:
        return None  # of another version of Corral


def _host_of(path: PurePosixPath, farm: FarmFile, last: FarmFile | None) -> tuple[str, Host] | None:
    """Return the host that a rendered compose file is for, None for any other file."""
    if path == GATE_FILE:
        return farm.gate_host, farm.hosts[farm.gate_host]
    match path.parts:
        case ("hosts", name, "gpu-server", "compose.yaml"):
            host = farm.hosts.get(name) or (last.hosts.get(name) if last else None)
            if host is not None:
                return name, host
            raise CorralError(
                f"{path} is of a host that the farm file does not list, and no earlier one that ran here did",
                f"take its containers down (docker compose down, on {name}), then `corral render --prune`",
            )
    return None


def _project(out: Path, change: Change, engine: Engine) -> Project:
    text = change.after if change.after is not None else change.before
    folder = (out / change.path).parent
    places = (folder / ".env", out / ".env")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise CorralError(
            f"neither {places[0]} nor {places[1]} is there", "write the secrets into one of them: docs/farm-file.md"
        )
    return Project(str(yaml.safe_load(text or "")["name"]), out / change.path, found, engine)


def _check_name(change: Change, project: Project) -> None:
    """A project under a new name would start beside the one that runs, on the same ports."""
    before = yaml.safe_load(change.before)["name"] if change.before is not None else project.name
    if before != project.name and Project(before, project.file, project.secrets, project.engine).containers():
        raise CorralError(
            f"the farm was renamed, and its containers run under the old name, {before}, on {project.engine.said}",
            f"take them down first (docker compose -p {before} down), or keep the name",
        )


def _notes(
    change: Change, project: Project, there: Mapping[str, Container], wanted: Mapping[str, Wanted]
) -> Iterator[str]:
    """Say where putting back would not give what runs now."""
    if not there:
        return
    if change.before is None:
        yield f"{project.engine.said}: {change.path} is not here, so a failure could not be put back"
        return
    before = wanted if change.state == "unchanged" else project.wanted(change.before)
    other = [name for name, container in there.items() if name in before and before[name].digest != container.digest]
    if other:
        yield (
            f"{project.engine.said}: {', '.join(other)} did not start from {change.path} as it is here; "
            "a failure would put back what that says"
        )


def _gate_reads_anew(files: Sequence[Change]) -> tuple[str, ...]:
    return (GATE,) if any(each.path == GATE_CONFIG and each.state == "changed" for each in files) else ()


def _steps(
    project: Project,
    wanted: Mapping[str, Wanted],
    there: Mapping[str, Container],
    servers: Mapping[str, Server],
    reread: Sequence[str],
) -> Iterator[Step]:
    for name, each in wanted.items():
        server = servers.get(name)
        if name not in there:
            if not each.optional:
                yield Step("add", project, name, each, server)
        elif there[name].status != "running" or there[name].digest != each.digest or name in reread:
            yield Step("change", project, name, each, server, recreate=name in reread)


def _alone(farm: FarmFile, steps: Sequence[Step]) -> Iterator[str]:
    changed = {step.service for step in steps if step.doing == "change"}
    for model in farm.models:
        of_it = [server.name for server in servers_of(farm) if server.model_name == model]
        if len(of_it) == 1 and of_it[0] in changed:
            yield model


def _key(steps: Sequence[Step]) -> str:
    """Return the key of the gpu-servers. Compose has refused a file without it already."""
    files = dict.fromkeys(step.project.secrets for step in steps)
    keys = (parse_env(file.read_text(encoding="utf-8")).get(KEY, "") for file in files)
    return next(filter(None, keys), "")
