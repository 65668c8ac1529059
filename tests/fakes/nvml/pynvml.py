"""A faked NVML: one P104-100 that can be lost, report Xid errors, get hot and so on. Stands in for nvidia-ml-py.

`state` is what goes on. In a gpu-server that is another process, the file in FAKE_NVML tells, a line each: `lost`,
`xid N`, or one of `READINGS` and its value; emptied, the card is well again.
"""

# Names and signatures are NVML's.
# ruff: noqa: N802, N816

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_TIMEOUT = 10
NVML_ERROR_GPU_IS_LOST = 15
NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = NVML_VOLATILE_ECC = NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
NVML_CLOCK_MEM = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
nvmlEventTypeXidCriticalError = 8

READINGS = ("temperature", "throttled", "used_mib", "limit_mw", "corrected", "uncorrected")
"""As NVML gives them; `throttled` has a bit for each reason."""


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__({NVML_ERROR_GPU_IS_LOST: "GPU is lost"}.get(value, f"NVML error {value}"))


@dataclass
class State:
    """What the card does."""

    cards: int = 1
    driver: bool = True
    events: bool = True
    lost: bool = False
    hangs_s: float = 0.0
    xids: list[int] = field(default_factory=list)
    readings: dict[str, int] = field(default_factory=dict)


state = State()
_CONTROL = Path(os.environ["FAKE_NVML"]) if "FAKE_NVML" in os.environ else None


def _look() -> None:
    if _CONTROL is None:
        return
    lines = _CONTROL.read_text().splitlines()
    told = {name: value for name, _, value in (line.partition(" ") for line in lines)}
    state.lost = "lost" in told
    state.readings = {name: int(told[name]) for name in READINGS if name in told}
    if "xid" in told:
        _CONTROL.write_text("\n".join(line for line in lines if not line.startswith("xid ")))
        state.xids.append(int(told["xid"]))


def _reading(name: str, otherwise: int | None = None) -> int:
    value = state.readings.get(name, otherwise)
    if value is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return value


def _well() -> None:
    _look()
    if state.lost:
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)


def nvmlInit() -> None:
    if not state.driver:
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)


def nvmlDeviceGetCount() -> int:
    return state.cards


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetHandleByUUID(_uuid: str) -> int:
    return 0


def nvmlDeviceGetUUID(card: int) -> str:
    return f"GPU-{card}"


def nvmlDeviceGetName(_card: int) -> str:
    return "P104-100"


def nvmlDeviceGetMemoryInfo(_card: int) -> SimpleNamespace:
    _well()
    time.sleep(state.hangs_s)
    return SimpleNamespace(used=_reading("used_mib", 3072) * 2**20, total=8 * 2**30)


def nvmlDeviceGetUtilizationRates(_card: int) -> SimpleNamespace:
    return SimpleNamespace(gpu=75, memory=20)


def nvmlDeviceGetPowerUsage(_card: int) -> int:
    return 150_000


def nvmlDeviceGetClockInfo(_card: int, _domain: int) -> int:
    return 1733


def nvmlDeviceGetCurrentClocksThrottleReasons(_card: int) -> int:
    return _reading("throttled", 0x4)


def nvmlDeviceGetTemperature(_card: int, _sensor: int) -> int:
    return _reading("temperature")


def nvmlDeviceGetEnforcedPowerLimit(_card: int) -> int:
    return _reading("limit_mw")


def nvmlDeviceGetTotalEccErrors(_card: int, kind: int, _counter: int) -> int:
    return _reading("uncorrected" if kind == NVML_MEMORY_ERROR_TYPE_UNCORRECTED else "corrected")


def nvmlEventSetCreate() -> str:
    if not state.events:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return "events"


def nvmlDeviceRegisterEvents(_card: int, kinds: int, events: str) -> None:
    assert (kinds, events) == (nvmlEventTypeXidCriticalError, "events")


def nvmlEventSetWait_v2(_events: str, timeout_ms: int) -> SimpleNamespace:
    until = time.monotonic() + timeout_ms / 1000
    while time.monotonic() < until:
        _look()
        if state.xids:
            return SimpleNamespace(device=0, eventType=8, eventData=state.xids.pop(0))
        time.sleep(0.02)
    raise NVMLError(NVML_ERROR_TIMEOUT)


def _unsupported(*_: object) -> None:
    raise NVMLError(NVML_ERROR_NOT_SUPPORTED)


nvmlDeviceGetCurrPcieLinkGeneration = nvmlDeviceGetCurrPcieLinkWidth = _unsupported
