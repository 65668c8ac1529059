"""The NVIDIA driver and each GPU, through NVML; it remembers memory errors, but no Xid: the kernel's log has those."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from corral.doctor.findings import Finding, Level, Wanted, WantedGpu

DEADLINE_S = 20.0  # NVML hangs with a broken driver
MIB = 1024 * 1024
MEMORY_TOLERANCE = 0.95  # a card of 8192 MiB tells some 80 less
HOT_C, MARGIN_C = 85, 5

# CUDA's minor-version compatibility: the oldest Linux driver for each major version, from its release notes.
_OLDEST_DRIVER = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
_OLDEST_CAPABILITY = {12: (5, 0), 13: (7, 5)}

_DRIVER_MENDS = {
    "NVML_ERROR_DRIVER_NOT_LOADED": "load it with `modprobe nvidia`; if that fails, look at `dkms status` and `dmesg`",
    "NVML_ERROR_LIBRARY_NOT_FOUND": "install the NVIDIA driver",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the driver was updated under a running kernel module: reboot",
    "NVML_ERROR_NO_PERMISSION": "give this user access to /dev/nvidia*",
}

# Bits of nvmlClocksEventReasons that hold clocks back under load: what it is, how bad, what to do.
_THROTTLES: tuple[tuple[int, str, Level, str], ...] = (
    (0x4, "its power limit", "note", ""),
    (0x8, "hardware slowdown", "error", "check cooling, power plugs and the power supply"),
    (0x20, "heat (driver)", "warning", "improve the airflow, or lower its power limit"),
    (0x40, "heat (hardware)", "error", "check fan, dust and heat paste before it is damaged"),
    (0x80, "a power brake", "error", "check power plugs, risers and the power supply"),
)


class _LostError(Exception):
    """The GPU does not answer any more."""


def check_gpus(wanted: Wanted, nvml: Any, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """Look at the driver and at every GPU, within a deadline.

    Args:
        wanted: the GPUs to be there.
        nvml: the pynvml module, or a fake of it.
        deadline_s: after which NVML counts as hanging.
    """
    answer: queue.SimpleQueue[list[Finding] | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            answer.put(list(_findings(wanted, nvml)))
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits, and raised there
            answer.put(error)

    threading.Thread(target=look, name="nvml", daemon=True).start()
    try:
        found = answer.get(timeout=deadline_s)
    except queue.Empty:
        mend = "look at `dmesg` for Xid errors, then reboot"
        return [Finding("driver", "error", f"the NVIDIA driver does not answer within {deadline_s:.0f} s", mend)]
    if isinstance(found, Exception):
        raise found
    return found


def _findings(wanted: Wanted, nvml: Any) -> Iterator[Finding]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        yield _no_driver(wanted, nvml, error)
        return
    try:
        yield _driver(wanted, str(nvml.nvmlSystemGetDriverVersion()))
        cards, faults = _cards(nvml)
        yield from faults
        for gpu in wanted.gpus:
            if gpu.uuid not in cards:
                there = ", ".join(cards) or "none"
                mend = f"check plugs and risers, or correct the farm file; there are: {there}"
                yield Finding("gpu", "error", f"{gpu.uuid} is not on this machine", mend)
        known = {gpu.uuid: gpu for gpu in wanted.gpus}
        for uuid, card in cards.items():
            yield from _card(_Card(nvml, card), uuid, known.get(uuid), wanted)
    except nvml.NVMLError as error:
        yield Finding("driver", "error", f"the NVIDIA driver fails: {error}", "look at `dmesg`, then reboot")
    finally:
        nvml.nvmlShutdown()


def _no_driver(wanted: Wanted, nvml: Any, error: Exception) -> Finding:
    if not wanted.gpus:
        return Finding("driver", "note", f"no NVIDIA driver ({error}): the farm has no GPU on this machine")
    code = getattr(error, "value", None)
    mend = next((mend for name, mend in _DRIVER_MENDS.items() if getattr(nvml, name, object()) == code), "reinstall it")
    return Finding("driver", "error", f"no NVIDIA driver ({error}), and the farm wants {len(wanted.gpus)} GPU(s)", mend)


def _driver(wanted: Wanted, version: str) -> Finding:
    oldest = _OLDEST_DRIVER.get(wanted.cuda)
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if oldest is not None and numbers < oldest:
        needed = ".".join(f"{part:02d}" for part in oldest)
        return Finding(
            "driver", "error", f"driver {version} is too old for CUDA {wanted.cuda}", f"install {needed} or later"
        )
    return Finding("driver", "ok", f"driver {version}, new enough for CUDA {wanted.cuda}")


def _cards(nvml: Any) -> tuple[dict[str, Any], list[Finding]]:
    """Return the handles by UUID, and a finding for each card that does not answer."""
    cards: dict[str, Any] = {}
    faults = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            cards[str(nvml.nvmlDeviceGetUUID(card))] = card
        except nvml.NVMLError as error:
            faults.append(_lost(f"GPU {index}", error))
    return cards, faults


def _lost(name: str, error: Exception) -> Finding:
    mend = "look at `dmesg` for its Xid error; check riser, power plugs and heat, then reboot"
    return Finding("gpu", "error", f"{name} does not answer ({error})", mend)


class _Card:
    """Asks one card; None is what it does not tell."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml = nvml
        self._handle = handle

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(self._handle, *arguments)
        except self.nvml.NVMLError as error:
            if getattr(error, "value", None) in (self.nvml.NVML_ERROR_GPU_IS_LOST, self.nvml.NVML_ERROR_UNKNOWN):
                raise _LostError(str(error)) from error
            return None


def _card(card: _Card, uuid: str, wanted: WantedGpu | None, farm: Wanted) -> Iterator[Finding]:
    try:
        name = f"{card.ask(card.nvml.nvmlDeviceGetName) or 'GPU'} {uuid}"
        memory = card.ask(card.nvml.nvmlDeviceGetMemoryInfo)
        if wanted is None:
            yield Finding(
                "gpu", "note", f"{name} is not in the farm file", "add it there to use it" if farm.gpus else ""
            )
        else:
            yield _memory(name, wanted, memory)
        yield from _capability(card, name, farm.cuda)
        yield from _temperature(card, name)
        yield from _throttling(card, name)
        yield from _power(card, name, wanted)
        yield from _errors(card, name)
        yield from _persistence(card, name)
    except _LostError as error:
        yield _lost(uuid, error)


def _memory(name: str, wanted: WantedGpu, memory: Any) -> Finding:
    total_mib = int(memory.total) // MIB if memory is not None else None
    if total_mib is None or wanted.memory_mib is None or total_mib >= wanted.memory_mib * MEMORY_TOLERANCE:
        size = f" with {total_mib:,} MiB" if total_mib is not None else ""
        return Finding("gpu", "ok", f"{name} is there{size}")
    return Finding(
        "gpu",
        "error",
        f"{name} has {total_mib:,} MiB, the farm file says {wanted.memory_mib:,}",
        "correct memory_mib in the farm file, then `corral plan`",
    )


def _capability(card: _Card, name: str, cuda: int) -> Iterator[Finding]:
    capability = card.ask(card.nvml.nvmlDeviceGetCudaComputeCapability)
    oldest = _OLDEST_CAPABILITY.get(cuda)
    if capability is not None and oldest is not None and tuple(capability) < oldest:
        has = ".".join(map(str, capability))
        mend = "use a llama-server built with CUDA 12" if tuple(capability) >= (5, 0) else "use another GPU"
        yield Finding("gpu", "error", f"{name} has compute capability {has}, too old for CUDA {cuda}", mend)


def _temperature(card: _Card, name: str) -> Iterator[Finding]:
    nvml = card.nvml
    now = card.ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
    if now is None:
        return
    slowdown = card.ask(nvml.nvmlDeviceGetTemperatureThreshold, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    limit = slowdown - MARGIN_C if slowdown else HOT_C
    if now < limit:
        yield Finding("temperature", "ok", f"{name}: {now} C")
    else:
        slows = f", and it slows down at {slowdown} C" if slowdown else ""
        mend = "improve the airflow, clean the fans, or lower its power limit"
        yield Finding("temperature", "warning", f"{name}: {now} C{slows}", mend)


def _throttling(card: _Card, name: str) -> Iterator[Finding]:
    reasons = card.ask(card.nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    if reasons is None:
        return
    held = [(said, level, mend) for bit, said, level, mend in _THROTTLES if reasons & bit]
    if not held:
        yield Finding("throttling", "ok", f"{name}: nothing holds its clocks back")
    for said, level, mend in held:
        yield Finding("throttling", level, f"{name}: {said} holds its clocks back", mend)


def _power(card: _Card, name: str, wanted: WantedGpu | None) -> Iterator[Finding]:
    limit_mw = card.ask(card.nvml.nvmlDeviceGetEnforcedPowerLimit)
    if wanted is None or wanted.power_limit_w is None:
        return
    watts = wanted.power_limit_w
    if limit_mw is None:
        yield Finding("power", "note", f"{name} does not tell its power limit; {watts} W are wanted")
        return
    allowed = card.ask(card.nvml.nvmlDeviceGetPowerManagementLimitConstraints)
    if allowed is not None and not allowed[0] <= watts * 1000 <= allowed[1]:
        span = f"{allowed[0] / 1000:.0f} to {allowed[1] / 1000:.0f} W"
        yield Finding("power", "error", f"{name} takes no limit of {watts} W", f"give one of {span} in the farm file")
    elif abs(limit_mw / 1000 - watts) < 1:
        yield Finding("power", "ok", f"{name}: limited to {watts} W")
    else:
        mend = f"as root: nvidia-smi -i {wanted.uuid} -pl {watts}; a reboot undoes it unless a service sets it"
        yield Finding("power", "warning", f"{name}: limited to {limit_mw / 1000:.0f} W, {watts} W are wanted", mend)


def _errors(card: _Card, name: str) -> Iterator[Finding]:
    nvml = card.nvml

    def count(kind: int) -> int:
        return int(card.ask(nvml.nvmlDeviceGetTotalEccErrors, kind, nvml.NVML_AGGREGATE_ECC) or 0)

    uncorrected = count(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
    corrected = count(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
    if uncorrected:
        mend = "answers may be wrong: take it out of the farm, test its memory, replace it if they grow"
        yield Finding("memory errors", "error", f"{name}: {uncorrected} uncorrected memory errors in its life", mend)
    elif corrected:
        mend = "look again in a week; replace it if they grow"
        yield Finding("memory errors", "note", f"{name}: {corrected} corrected memory errors in its life", mend)
    if card.ask(nvml.nvmlDeviceGetRetiredPagesPendingStatus):
        yield Finding("memory errors", "warning", f"{name}: bad memory pages wait to be retired", "reboot")


def _persistence(card: _Card, name: str) -> Iterator[Finding]:
    mode = card.ask(card.nvml.nvmlDeviceGetPersistenceMode)
    if mode == 0:
        mend = "as root: systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1"
        said = "persistence mode is off: the driver is loaded anew for each first client, and forgets the power limit"
        yield Finding("persistence", "warning", f"{name}: {said}", mend)
    elif mode is not None:
        yield Finding("persistence", "ok", f"{name}: persistence mode is on")
