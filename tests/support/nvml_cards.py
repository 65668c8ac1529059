"""A faked NVML with the cards that a test wants, each in its own state; its names are those of the real one."""

# Names and signatures are NVML's.
# ruff: noqa: N802, N803

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml

MIB = 1024 * 1024


@dataclass
class Card:
    """One card; None is what it does not tell."""

    uuid: str = "GPU-1"
    name: str = "P104-100"
    memory_mib: int = 8112
    capability: tuple[int, int] | None = (6, 1)
    temperature_c: int | None = 60
    slowdown_c: int | None = 95
    throttled: int | None = 0
    limit_w: int | None = 90
    limits_w: tuple[int, int] | None = (90, 180)
    persistence: int | None = 1
    corrected: int | None = None
    uncorrected: int | None = None
    pages_pending: int | None = None
    lost: bool = False


@dataclass
class FakeNvml:
    """Stands in for the module pynvml."""

    cards: list[Card] = field(default_factory=list)
    driver: str = "570.86.15"
    fails: int | None = None
    """The error code of nvmlInit."""
    hangs: threading.Event | None = None
    """nvmlInit waits for this."""
    shut: bool = False

    NVMLError = pynvml.NVMLError
    NVML_ERROR_GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST
    NVML_ERROR_UNKNOWN = pynvml.NVML_ERROR_UNKNOWN
    NVML_ERROR_DRIVER_NOT_LOADED = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    NVML_ERROR_LIBRARY_NOT_FOUND = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    NVML_ERROR_NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    NVML_AGGREGATE_ECC = pynvml.NVML_AGGREGATE_ECC
    NVML_MEMORY_ERROR_TYPE_CORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED

    def nvmlInit(self) -> None:
        if self.hangs is not None:
            self.hangs.wait(30)
        if self.fails is not None:
            raise pynvml.NVMLError(self.fails)

    def nvmlShutdown(self) -> None:
        self.shut = True

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetUUID(self, handle: Card) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Card) -> object:
        return _told(handle, handle.name)

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> object:
        return _told(handle, SimpleNamespace(total=handle.memory_mib * MIB))

    def nvmlDeviceGetCudaComputeCapability(self, handle: Card) -> object:
        return _told(handle, handle.capability)

    def nvmlDeviceGetTemperature(self, handle: Card, sensor: int) -> object:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return _told(handle, handle.temperature_c)

    def nvmlDeviceGetTemperatureThreshold(self, handle: Card, threshold: int) -> object:
        assert threshold == pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        return _told(handle, handle.slowdown_c)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Card) -> object:
        return _told(handle, handle.throttled)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Card) -> object:
        return _told(handle, handle.limit_w and handle.limit_w * 1000)

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: Card) -> object:
        return _told(handle, handle.limits_w and [watts * 1000 for watts in handle.limits_w])

    def nvmlDeviceGetPersistenceMode(self, handle: Card) -> object:
        return _told(handle, handle.persistence)

    def nvmlDeviceGetTotalEccErrors(self, handle: Card, errorType: int, counterType: int) -> object:
        assert counterType == pynvml.NVML_AGGREGATE_ECC
        uncorrected = errorType == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        return _told(handle, handle.uncorrected if uncorrected else handle.corrected)

    def nvmlDeviceGetRetiredPagesPendingStatus(self, device: Card) -> object:
        return _told(device, device.pages_pending)


def _told(card: Card, value: object) -> object:
    if card.lost:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
