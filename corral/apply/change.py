"""`corral apply`: bring a running farm to what a farm file says.

Everything that can be checked is checked before the first server is touched. Then changed servers are replaced one at a
time: each finishes its work, starts anew, becomes ready and answers a real request before the next one's turn. The
gate restarts last, and only if what it knows of the farm changed. At the first failure all that was done is undone.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corral import litellm_config, local_farm, machine, ports
from corral.apply.difference import GATE, Difference, difference
from corral.apply.history import Entry, History, How
from corral.apply.probing import prove
from corral.apply.steps import Steps
from corral.errors import CorralError
from corral.farm import FarmFile, load_farm
from corral.farm.servers import base_name
from corral.farmstate import Failure, FarmState
from corral.keeper.changes import ChangeRequest
from corral.local_farm import LocalFarm
from corral.monitoring import beside
from corral.parts import Part, parts
from corral.paths import StateDir, write_private
from corral.plan.check import check_fits
from corral.secrets import Secrets
from corral.yamlfile import YamlFileErrors


@dataclass(frozen=True)
class Prepared:
    """A change that was checked and not begun."""

    farm: LocalFarm
    text: str
    file: Path
    difference: Difference
    alone: tuple[str, ...]
    """Models whose only server restarts: they do not answer meanwhile."""
    reasons: Mapping[str, list[str]]
    """What the farm file now says otherwise, by server."""
    notes: tuple[str, ...]
    watched_otherwise: bool = False
    """Whether the farm is watched, and the file's `monitoring` says something else than before."""

    @property
    def summary(self) -> str:
        """One line for the history."""
        watched = "changed monitoring" if self.watched_otherwise else ""
        return "; ".join(filter(None, (self.difference.summary, watched)))


def prepare(
    state: StateDir, running: FarmState, file: Path, secrets: Secrets, environment: Mapping[str, str]
) -> Prepared:
    """Read and check the farm file, and compare it with what runs.

    Raises:
        YamlFileErrors, CorralError: it cannot be applied; nothing was changed.
    """
    loaded = load_farm(file)
    seen = machine.look(state.root, environment)
    farm = local_farm.choose(loaded.value, file.parent, state.models, seen, check_room=False)
    if any(server.on_gpu for server in farm.servers):
        check_fits(loaded.value, file.parent, state.models, state.headers, seen, environment)
    last = _last_file(state)
    chosen, notes = _ports(farm, running, last)
    config = litellm_config.render(farm, chosen)
    wanted = parts(farm, chosen, secrets, state, file, environment, gate_config=config)
    found = difference(running, wanted)
    local_farm.check_growth(seen, farm, [part.name for part in (*found.changed, *found.added)])
    reasons = {server.name: list(_reasons(server.model_name, farm.file, last)) for server in farm.servers}
    watched_otherwise = beside.is_on(state) and last is not None and last.monitoring != loaded.value.monitoring
    return Prepared(
        farm, loaded.source_text, file, found, tuple(_alone(farm, found)), reasons, tuple(notes), watched_otherwise
    )


def carry_out(
    state: StateDir, running: FarmState, prepared: Prepared, secrets: Secrets, steps: Steps, how: How = "apply"
) -> Entry | None:
    """Make the change; return its entry in the history.

    Raises:
        CorralError: a step failed, and everything was put back.
    """
    _pull(state, prepared)
    undo: list[ChangeRequest] = []
    try:
        failure = _roll_out(prepared, secrets.gpu_server_key, steps, undo)
    except KeyboardInterrupt:
        failure = Failure("the change", "was interrupted", "run it again")
    if failure is not None:
        raise _put_back(steps, undo, failure)
    _remember_ports(state, running, prepared)
    return History(state).record(prepared.text, how, prepared.file, prepared.summary)


def _roll_out(prepared: Prepared, key: str, steps: Steps, undo: list[ChangeRequest]) -> Failure | None:
    """Do step after step until one fails; `undo` gets what takes each back."""
    found = prepared.difference
    for part in (*found.changed, *found.added):
        undo.append(ChangeRequest("", remove=(part.name,)) if part in found.added else _restore(part.name))
        if failure := steps.do(ChangeRequest("", parts=(part,))):
            undo.pop()  # the keeper has put this one back itself
            return failure
        url, mend = f"http://{ports.HOST}:{part.port}", f"its log may say why: corral logs {part.name}"
        if failure := prove(part.name, url, _mode(prepared.farm, part), key, mend=mend):
            return failure
    if found.gate is not None:
        undo.append(_restore(GATE))
        if failure := steps.do(ChangeRequest("", parts=(found.gate,))):
            undo.pop()
            return failure
    return steps.do(ChangeRequest("", remove=found.removed, models=prepared.farm.modes))


def _restore(name: str) -> ChangeRequest:
    return ChangeRequest("", restore=(name,))


def _put_back(steps: Steps, undo: list[ChangeRequest], failure: Failure) -> CorralError:
    failed = [one for one in map(steps.do, reversed(undo)) if one is not None]
    if failed:
        still = "; ".join(f"{one.part}: {one.cause}" for one in failed)
        return CorralError(
            f"{failure.part}: {failure.cause}; putting it back failed too: {still}", "make down, then make up"
        )
    return CorralError(
        f"{failure.part} did not come up as the farm file says: {failure.cause}",
        f"everything was put back as it was; {failure.mend}",
    )


def _last_file(state: StateDir) -> FarmFile | None:
    entries = History(state).entries()
    if not entries:
        return None
    try:
        return load_farm(History(state).path(entries[-1].number)).value
    except YamlFileErrors:
        return None  # of another version of Corral


def _ports(farm: LocalFarm, running: FarmState, last: FarmFile | None) -> tuple[dict[str, int], list[str]]:
    """Return a port for each part, and what there is to say of them.

    A part keeps the port it has, unless the farm file now says another. One that is taken gives way to the next free.
    """
    has = {part.name: part.port for part in running.parts}
    before = dict(_preferred(last)) if last is not None else {}
    chosen = {"litellm": has["litellm"], "postgres": has["postgres"]}
    for server in farm.servers:
        kept = server.name in has and before.get(server.name, server.preferred_port) == server.preferred_port
        chosen[server.name] = has[server.name] if kept else server.preferred_port
    moved = [(name, port) for name, port in chosen.items() if port != has.get(name)]
    found, notes = ports.choose(moved, {})
    return {**chosen, **found}, notes


def _preferred(file: FarmFile) -> Iterator[tuple[str, int]]:
    counted: dict[str, int] = {}
    for placement in file.servers:
        base = base_name(placement)
        for port in placement.ports:
            counted[base] = counted.get(base, 0) + 1
            yield f"{base}-{counted[base]}", port


def _reasons(model: str, file: FarmFile, last: FarmFile | None) -> Iterator[str]:
    """Give what differs in a model's part of the file, `key: before -> after`."""
    if last is None or model not in last.models:
        return
    before, after = last.models[model].model_dump(mode="json"), file.models[model].model_dump(mode="json")
    yield from (f"{key}: {before[key]} -> {after[key]}" for key in after if before[key] != after[key])


def _alone(farm: LocalFarm, found: Difference) -> Iterator[str]:
    changed = {part.name for part in found.changed}
    for model in farm.model_names:
        servers = [server.name for server in farm.servers if server.model_name == model]
        if len(servers) == 1 and servers[0] in changed:
            yield model


def _mode(farm: LocalFarm, part: Part) -> str:
    return next(server.model.mode for server in farm.servers if server.name == part.name)


def _pull(state: StateDir, prepared: Prepared) -> None:
    """Have every model there before a server is touched."""
    missing = sorted({server.model_name for server in prepared.farm.servers if not server.gguf.exists()})
    if not missing:
        return
    command = [
        *(Path(sys.executable).with_name("corral"), "models", "pull", *missing),
        *("--file", prepared.file, "--into", state.models),
    ]
    if subprocess.run([str(word) for word in command], check=False).returncode:
        raise CorralError(
            f"a model could not be had ({', '.join(missing)}), so nothing was changed", "see the lines above"
        )


def _remember_ports(state: StateDir, running: FarmState, prepared: Prepared) -> None:
    found = prepared.difference
    now = {part.name: part.port for part in running.parts if part.port and part.name not in found.removed}
    now |= {part.name: part.port for part in (*found.changed, *found.added)}
    write_private(state.ports_file, json.dumps(now))
