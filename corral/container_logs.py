"""The logs of a farm of containers, as the Docker engines of its hosts have them."""

from collections.abc import Iterator
from pathlib import Path

from corral.apply.engine import Engine, Project
from corral.apply.on_hosts import is_for_hosts
from corral.errors import CorralError
from corral.farm import FarmFile, load_farm, servers_of

GATE = "litellm"
ANSWERS_S = 120.0
"""For a whole log, over ssh too; the rendered files keep 30 MB of each container's."""


def of_file(file: Path) -> dict[str, list[str]] | None:
    """Return the logs of the farm of a file; None where that is no farm of containers.

    Raises:
        YamlFileErrors, CorralError: the file is wrong, or as `of_farm`.
    """
    farm = load_farm(file).value
    return of_farm(farm) if is_for_hosts(farm) else None


def of_farm(farm: FarmFile) -> dict[str, list[str]]:
    """Return the lines of the gate's and the gpu-servers' logs, by part.

    Raises:
        CorralError: an engine cannot be reached or does not tell, or nothing of the farm was ever started there.
    """
    found = dict(_logs(farm))
    if not found:
        raise CorralError(
            f"no container of {farm.name} is there to have a log", "start it: corral apply, or docker compose up -d"
        )
    return found


def _logs(farm: FarmFile) -> Iterator[tuple[str, list[str]]]:
    servers = servers_of(farm)
    for name, host in farm.hosts.items():
        wanted = {f"{farm.name}-{name}": {server.name for server in servers if server.host_name == name}}
        if name == farm.gate_host:
            wanted[f"{farm.name}-gate"] = {GATE}
        engine = Engine.of_host(name, host)
        for project, parts in wanted.items():
            compose = Project(project, Path("compose.yaml"), Path(".env"), engine)  # its files are not looked at
            for part, container in (compose.containers() if parts else {}).items():
                if part in parts:
                    yield part, _lines(engine, part, container.id)


def _lines(engine: Engine, part: str, container: str) -> list[str]:
    done = engine.ask("logs", container, timeout_s=ANSWERS_S)
    if done.returncode:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise CorralError(f"the Docker engine of {engine.said} gives no log of {part}: {said}", "look at that host")
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]
