"""What would make a full GPU's servers fit: one change of the farm file each, and each of them tried.

Candidates come from `planner.fit.largest_that_fits` (context, slots, type of the KV cache, layers) and from GPUs of the
same host with room. Each is applied to the farm and planned again: only what mends the finding and breaks nothing else
is offered. Of several sizes, the largest that fits is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from corral.farm.file import FarmFile
from corral.gguf.header import Header
from corral.plan.edits import apply
from corral.plan.figures import Edit, Finding, Mend, Plan, PlannedGpu, PlannedServer
from corral.plan.known import Known
from corral.plan.on_gpus import GPU_FULL, gpus_name, groups
from corral.plan.words import mib
from corral.planner.estimate_server import Device
from corral.planner.fit import largest_that_fits

Replan = Callable[[FarmFile], Plan]


@dataclass(frozen=True, slots=True)
class Mended:
    """What is offered for a finding, in words and as changes of the file."""

    text: str
    mends: tuple[Mend, ...]


class Mender:
    """Finds mends for the findings of one plan; what was tried once is not tried again."""

    def __init__(self, bare: Plan, known: Known, replan: Replan) -> None:
        self._bare = bare
        self._known = known
        self._replan = replan
        self._groups = {gpus_name(alike): alike for alike in groups(bare.gpus)}
        self._errors = _errors(bare)
        self._errors_after: dict[tuple[Edit, ...], set[tuple[str, str]]] = {}
        self._settings_within: dict[tuple[str, int], tuple[Mend, ...]] = {}

    def mended(self, finding: Finding) -> Mended | None:
        """Return what mends a full GPU; None for findings of other kinds."""
        if finding.code != GPU_FULL:
            return None
        group = self._groups[finding.where]
        mends = tuple(mend for mend in self._candidates(group) if self._helps(mend, group))
        if mends:
            return Mended(", or ".join(mend.text for mend in mends), mends)
        need = group[0].used_bytes + group[0].margin_bytes
        return Mended(f"take a smaller model or quantisation, or a GPU of {mib(need)} MiB", ())

    def _helps(self, mend: Mend, group: Sequence[PlannedGpu]) -> bool:
        if mend.edits not in self._errors_after:
            self._errors_after[mend.edits] = _errors(self._replan(apply(self._bare.farm, mend.edits)))
        after = self._errors_after[mend.edits]
        return after <= self._errors and not any((GPU_FULL, gpus_name((gpu,))) in after for gpu in group)

    def _candidates(self, group: Sequence[PlannedGpu]) -> Iterator[Mend]:
        by_model = {server.server.model_name: server for server in group[0].servers if server.estimate}
        for server in sorted(by_model.values(), key=lambda server: -server.gpu_bytes):
            yield from self._settings(server, group)
        moved = _move(group, self._bare)
        if moved:
            yield moved

    def _settings(self, server: PlannedServer, group: Sequence[PlannedGpu]) -> tuple[Mend, ...]:
        """Return a model's settings with which its servers fit into what the other servers of these GPUs leave."""
        name = server.server.model_name
        full = [gpu for gpu in self._bare.gpus if not gpu.fits and _shares(gpu, name)]
        # On all full GPUs with the model, so that one change mends them all; else on these.
        everywhere = self._within(server, min(_share(gpu, name) for gpu in full))
        return everywhere or self._within(server, min(_share(gpu, name) for gpu in group))

    def _within(self, server: PlannedServer, budget: int) -> tuple[Mend, ...]:
        key = (server.server.model_name, budget)
        if key not in self._settings_within:
            header = self._known.headers[server.server.model_name]
            self._settings_within[key] = tuple(_smaller_settings(server, header, budget))
        return self._settings_within[key]


def _errors(plan: Plan) -> set[tuple[str, str]]:
    """Return the errors of a plan; each full GPU for itself, since a change may part those of a group."""
    full = {(GPU_FULL, gpus_name((gpu,))) for gpu in plan.gpus if not gpu.fits}
    others = (finding for finding in plan.findings if finding.level == "error" and finding.code != GPU_FULL)
    return full | {(finding.code, finding.where) for finding in others}


def _shares(gpu: PlannedGpu, name: str) -> int:
    return sum(server.server.model_name == name for server in gpu.servers)


def _share(gpu: PlannedGpu, name: str) -> int:
    """Return what each server of a model may take of a GPU."""
    others = sum(server.gpu_bytes for server in gpu.servers if server.server.model_name != name)
    return (gpu.memory_bytes - gpu.margin_bytes - others) // _shares(gpu, name)


def _smaller_settings(server: PlannedServer, header: Header, budget: int) -> Iterator[Mend]:
    name, shape = server.server.model_name, server.shape
    if shape is None or server.device is Device.CPU:
        return
    found = largest_that_fits(header, shape, budget)
    path = ("models", name)
    if found.context and found.context.context < shape.context:
        a_slot = found.context.context // shape.slots
        yield Mend(f"set context of {name} to {a_slot} (the largest that fits)", (Edit((*path, "context"), a_slot),))
    if found.slots and found.slots.slots < shape.slots:
        yield Mend(f"set slots of {name} to {found.slots.slots}", (Edit((*path, "slots"), found.slots.slots),))
    if found.cache_type and (found.cache_type.type_k, found.cache_type.type_v) != (shape.type_k, shape.type_v):
        kind = found.cache_type.type_k
        edits = tuple(Edit((*path, "kv_cache", part), kind) for part in ("k", "v"))
        yield Mend(f"set kv_cache of {name} to {{k: {kind}, v: {kind}}}", edits)
    if found.gpu_layers and found.gpu_layers.gpu_layers < shape.gpu_layers:
        layers = found.gpu_layers.gpu_layers
        yield Mend(f"set gpu_layers of {name} to {layers}", (Edit((*path, "gpu_layers"), layers),))


def _move(group: Sequence[PlannedGpu], bare: Plan) -> Mend | None:
    """Return a move of one server of each of these GPUs to another one of the host that has room for it."""
    room = {
        gpu.index: gpu.left_bytes - gpu.margin_bytes
        for gpu in bare.gpus
        if gpu.host_name == group[0].host_name and gpu.fits and gpu.known
    }
    cards: dict[int, tuple[int, ...]] = {}
    said = []
    for gpu in group:
        step = _step(gpu, room, cards, bare)
        if step is None:
            return None
        server, to = step
        placement = server.server.placement
        now = cards.get(placement) or tuple(_listed(bare, placement))
        cards[placement] = tuple(to if card == gpu.index else card for card in now)
        room[to] -= server.gpu_bytes
        said.append(f"{server.server.name} to GPU {to}")
    edits = tuple(Edit(("servers", placement, "gpus"), now) for placement, now in cards.items())
    return Mend(f"move {', '.join(said)}", edits)


def _step(
    gpu: PlannedGpu, room: dict[int, int], cards: dict[int, tuple[int, ...]], bare: Plan
) -> tuple[PlannedServer, int] | None:
    """Return the smallest server whose leaving is enough, and the GPU with the least room that takes it."""
    excess = gpu.margin_bytes - gpu.left_bytes
    for server in sorted(gpu.servers, key=lambda server: server.gpu_bytes):
        placement = server.server.placement
        taken = cards.get(placement) or tuple(_listed(bare, placement))
        if server.gpu_bytes < excess or not taken:
            continue
        free = [index for index, size in room.items() if size >= server.gpu_bytes and index not in taken]
        if free:
            return server, min(free, key=lambda index: room[index])
    return None


def _listed(bare: Plan, placement: int) -> Sequence[int]:
    """Return the GPUs that a placement names one by one; none where it says `all`."""
    gpus = bare.farm.servers[placement].gpus
    return () if gpus == "all" else gpus
