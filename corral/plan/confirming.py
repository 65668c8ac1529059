"""llama-server's own memory table beside the plan, for models whose files are on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError
from corral.plan.figures import Finding, Plan, PlannedServer
from corral.plan.known import Known
from corral.plan.on_servers import placements
from corral.plan.words import server_names
from corral.planner.estimate_server import Device
from corral.planner.fit_table import ConfirmError, DeviceRow, confirm
from corral.planner.memory import MIB, Estimate, estimate


@dataclass(frozen=True, slots=True)
class Row:
    """One part of one device's memory: as planned, and as llama-server tells it, in MiB rounded down."""

    device: str
    part: str
    planned_mib: float
    told_mib: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of a placement's servers."""

    name: str
    rows: tuple[Row, ...]


async def confirmed(
    plan: Plan, known: Known, llama_server: Path | None, environment: Mapping[str, str]
) -> tuple[tuple[Comparison, ...], tuple[Finding, ...]]:
    """Ask llama-server about one server of each placement whose model is here; what cannot be asked is a finding.

    Where this llama-server sees no GPU, the comparison is with what the plan would be on the CPU.

    Raises:
        CorralError: there is no llama-server to ask.
    """
    if llama_server is None:
        raise CorralError(
            "--confirm needs a llama-server program, and the packaged one prints no memory table",
            "put a llama-server on PATH, or name it in LLAMA_SERVER",
            exit_code=2,
        )
    wanted = [alike for alike in placements(plan.servers) if alike[0].estimate is not None]
    # One at a time: the second would find the first one's memory taken.
    answers = [await _ask(alike, known, llama_server, environment) for alike in wanted]
    return (
        tuple(answer for answer in answers if isinstance(answer, Comparison)),
        tuple(answer for answer in answers if isinstance(answer, Finding)),
    )


async def _ask(
    alike: Sequence[PlannedServer], known: Known, llama_server: Path, environment: Mapping[str, str]
) -> Comparison | Finding:
    first = alike[0]
    name, model = server_names([server.server.name for server in alike]), first.server.model_name
    file = known.files.get(model)
    if file is None or first.shape is None:
        return Finding(
            "note", "confirm", name, first.server.path, f"not confirmed: {model} is not on this machine",
            f"corral models pull {model}",
        )  # fmt: skip
    gpu = first.server.gpu
    pinned = {"CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu and gpu.uuid else {}
    try:
        rows = await confirm([llama_server], file, first.shape, environ={**environment, **pinned})
    except ConfirmError as error:
        return Finding("warning", "confirm", name, first.server.path, f"not confirmed: {error.cause}", error.mend)
    on_gpu = any(not row.host for row in rows)
    planned = first.estimate
    if planned is None or (first.device is Device.CUDA and not on_gpu):
        planned = estimate(known.headers[model], first.shape, Device.CPU)
    return Comparison(name, tuple(row for device in rows for row in _rows(device, planned)))


def _rows(told: DeviceRow, planned: Estimate) -> list[Row]:
    if told.host:
        parts = (planned.host.mapped, planned.host.cache, planned.host.compute)
    else:
        parts = (planned.gpu.weights, planned.gpu.cache, planned.gpu.compute)
    names = ("weights", "KV cache", "compute")
    sizes = (told.model_mib, told.context_mib, told.compute_mib)
    return [Row(told.device, name, size / MIB, given) for name, size, given in zip(names, parts, sizes, strict=True)]
