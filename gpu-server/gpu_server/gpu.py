"""The card's own state through NVML (nvidia-ml-py), for metrics and to notice a lost GPU or an Xid error.

NVML calls can hang with a broken driver: they run in threads of their own, with a deadline, and scrapes read the last
sample. Without an NVIDIA driver there is nothing to sample, and no metric either.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpu_server.states import Cause

SAMPLE_INTERVAL_S = 5.0
SAMPLE_TIMEOUT_S = 10.0
XID_WAIT_MS = 1000  # one look for an event; also how long a stop may have to wait for the thread that looks

_log = logging.getLogger(__name__)

# Clocks are held back for these reasons; the names follow NVML's nvmlClocksEventReasons.
_THROTTLE_BITS = {
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}

# Xids after which llama-server is left alone: 45 follows the death of any process on the card, our own kills included;
# 63 and 92 tell of memory errors that the card corrected. All others leave work on the card in doubt.
# https://docs.nvidia.com/deploy/xid-errors/
_HARMLESS_XIDS = frozenset({45, 63, 92})

MEANINGS = {
    "gpu_utilization_ratio": "Share of time in which the card computed.",
    "gpu_memory_utilization_ratio": "Share of time in which its memory was read or written.",
    "gpu_memory_used_bytes": "Memory in use.",
    "gpu_memory_total_bytes": "Memory of the card.",
    "gpu_power_watts": "Power drawn.",
    "gpu_power_limit_watts": "Power it may draw.",
    "gpu_temperature_celsius": "Temperature of the chip.",
    "gpu_pcie_link_generation": "PCIe generation of the link now.",
    "gpu_pcie_link_width": "PCIe lanes of the link now.",
}


class GpuLostError(Exception):
    """The driver says the GPU is gone."""


@dataclass(frozen=True, slots=True)
class Xid:
    """A critical error that the driver reported, by NVIDIA's number for it."""

    uuid: str
    code: int

    @property
    def harmless(self) -> bool:
        """Whether work on the card goes on undisturbed."""
        return self.code in _HARMLESS_XIDS


@dataclass(frozen=True, slots=True)
class Sample:
    """One card at one moment, in base units; what the card does not tell is left out."""

    uuid: str
    name: str
    gauges: dict[str, float] = field(default_factory=dict)
    clocks_hertz: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, bool] = field(default_factory=dict)
    ecc_errors: dict[str, float] = field(default_factory=dict)


class Nvml:
    """Blocking reads of the cards in `uuids` (all, if None); `nvml` is the pynvml module, or a fake of it."""

    def __init__(self, nvml: Any, uuid: str | None) -> None:
        self._nvml = nvml
        self._uuid = uuid
        self._handles: list[Any] = []
        self._events: Any = None

    def open(self) -> bool:
        """Find the cards; False if there is no driver or no card."""
        try:
            self._nvml.nvmlInit()
            if self._uuid:
                self._handles = [self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)]
            else:
                count = self._nvml.nvmlDeviceGetCount()
                self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except self._nvml.NVMLError:
            return False
        return bool(self._handles)

    def sample(self) -> list[Sample]:
        """Read every card.

        Raises:
            GpuLostError: One of them is gone.
        """
        return [self._sample_one(handle) for handle in self._handles]

    def watch_xids(self) -> bool:
        """Have the driver report Xid errors; False if it cannot."""
        nvml = self._nvml
        try:
            self._events = nvml.nvmlEventSetCreate()
            for handle in self._handles:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
        except nvml.NVMLError:
            return False
        return True

    def next_xid(self, timeout_ms: int) -> Xid | None:
        """Wait for an Xid error; None if none came within `timeout_ms`.

        Raises:
            GpuLostError: One of the cards is gone.
        """
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(self._events, timeout_ms)
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_TIMEOUT:
                return None
            raise GpuLostError(str(error)) from error
        return Xid(str(self._ask(nvml.nvmlDeviceGetUUID, event.device) or "unknown"), int(event.eventData))

    def _sample_one(self, card: Any) -> Sample:
        nvml, ask = self._nvml, self._ask
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, card)
        use = ask(nvml.nvmlDeviceGetUtilizationRates, card)
        readings = {
            "gpu_utilization_ratio": _scaled(getattr(use, "gpu", None), 0.01),
            "gpu_memory_utilization_ratio": _scaled(getattr(use, "memory", None), 0.01),
            "gpu_memory_used_bytes": _scaled(getattr(memory, "used", None)),
            "gpu_memory_total_bytes": _scaled(getattr(memory, "total", None)),
            "gpu_power_watts": _scaled(ask(nvml.nvmlDeviceGetPowerUsage, card), 0.001),
            "gpu_power_limit_watts": _scaled(ask(nvml.nvmlDeviceGetEnforcedPowerLimit, card), 0.001),
            "gpu_temperature_celsius": _scaled(ask(nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)),
            "gpu_pcie_link_generation": _scaled(ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration, card)),
            "gpu_pcie_link_width": _scaled(ask(nvml.nvmlDeviceGetCurrPcieLinkWidth, card)),
        }
        clocks = {
            "sm": _scaled(ask(nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_SM), 1e6),
            "memory": _scaled(ask(nvml.nvmlDeviceGetClockInfo, card, nvml.NVML_CLOCK_MEM), 1e6),
        }
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, card)
        volatile = nvml.NVML_VOLATILE_ECC
        ecc = {
            "corrected": _scaled(
                ask(nvml.nvmlDeviceGetTotalEccErrors, card, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, volatile)
            ),
            "uncorrected": _scaled(
                ask(nvml.nvmlDeviceGetTotalEccErrors, card, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, volatile)
            ),
        }
        return Sample(
            uuid=str(ask(nvml.nvmlDeviceGetUUID, card) or "unknown"),
            name=str(ask(nvml.nvmlDeviceGetName, card) or "unknown"),
            gauges=_known(readings),
            clocks_hertz=_known(clocks),
            throttled={} if reasons is None else {name: bool(reasons & bit) for name, bit in _THROTTLE_BITS.items()},
            ecc_errors=_known(ecc),
        )

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what NVML says, None if this card does not tell."""
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_GPU_IS_LOST:
                raise GpuLostError(str(error)) from error
            return None


def _scaled(value: Any, factor: float = 1.0) -> float | None:
    return None if value is None else float(value) * factor


def _known(readings: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in readings.items() if value is not None}


class GpuMonitor(Collector):
    """Watches the cards in the background; a collector of `gpu_*` metrics from the last sample.

    `on_fault` is told GPU_LOST, or XID for an error after which llama-server cannot be trusted.
    """

    def __init__(self, uuid: str | None, on_fault: Callable[[Cause], None], nvml: Any = None) -> None:
        self.samples: list[Sample] = []
        self.xids: Counter[Xid] = Counter()
        self._uuid = uuid
        self._on_fault = on_fault
        self._nvml = nvml

    async def run(self) -> None:
        """Watch until cancelled; returns at once where there is no card."""
        threads = ThreadPoolExecutor(2, thread_name_prefix="nvml")  # one reads, one waits for events
        loop = asyncio.get_running_loop()
        try:
            reader = await loop.run_in_executor(threads, self._open)
            if reader is None:
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sample(reader, threads), name="nvml samples")
                if await loop.run_in_executor(threads, reader.watch_xids):
                    tasks.create_task(self._watch_xids(reader, threads), name="nvml events")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> Nvml | None:
        if self._nvml is None:
            import pynvml  # here: 15 ms that a machine without a GPU need not wait for at start

            self._nvml = pynvml
        reader = Nvml(self._nvml, self._uuid)
        return reader if reader.open() else None

    async def _sample(self, reader: Nvml, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(SAMPLE_TIMEOUT_S):
                    self.samples = await loop.run_in_executor(threads, reader.sample)
            except TimeoutError:
                self.samples = []
                _log.warning("NVML did not answer within %s s", SAMPLE_TIMEOUT_S)
            except GpuLostError as error:
                self._lost(error)
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def _watch_xids(self, reader: Nvml, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(XID_WAIT_MS / 1000 + SAMPLE_TIMEOUT_S):
                    xid = await loop.run_in_executor(threads, reader.next_xid, XID_WAIT_MS)
            except TimeoutError:
                _log.warning("NVML's event wait hangs; Xid errors are not watched any more")
                return
            except GpuLostError as error:
                self._lost(error)
                await asyncio.sleep(SAMPLE_INTERVAL_S)
                continue
            if xid is not None:
                self._xid(xid)

    def _lost(self, error: GpuLostError) -> None:
        self.samples = []
        _log.warning("the GPU is lost: %s", error)
        self._on_fault(Cause.GPU_LOST)

    def _xid(self, xid: Xid) -> None:
        self.xids[xid] += 1
        _log.warning("Xid %s on %s (https://docs.nvidia.com/deploy/xid-errors/)", xid.code, xid.uuid)
        if not xid.harmless:
            self._on_fault(Cause.XID)

    def collect(self) -> Iterator[Metric]:
        """Give the last samples as metrics, and the Xid errors seen so far."""
        if self.xids:
            xids = CounterMetricFamily("gpu_xid_errors", "Xid errors by NVIDIA's number.", labels=["gpu", "xid"])
            for xid, times in sorted(self.xids.items(), key=lambda item: (item[0].uuid, item[0].code)):
                xids.add_metric([xid.uuid, str(xid.code)], times)
            yield xids
        if not self.samples:
            return
        info = GaugeMetricFamily("gpu_info", "The card.", labels=["gpu", "name"])
        clock = GaugeMetricFamily("gpu_clock_hertz", "Present clock.", labels=["gpu", "domain"])
        throttled = GaugeMetricFamily(
            "gpu_throttled", "1 while clocks are held back for this.", labels=["gpu", "reason"]
        )
        ecc = CounterMetricFamily("gpu_ecc_errors", "Memory errors since the driver loaded.", labels=["gpu", "kind"])
        plain: dict[str, GaugeMetricFamily] = {}
        for sample in self.samples:
            info.add_metric([sample.uuid, sample.name], 1)
            for name, value in sample.gauges.items():
                family = plain.setdefault(name, GaugeMetricFamily(name, MEANINGS[name], labels=["gpu"]))
                family.add_metric([sample.uuid], value)
            for domain, hertz in sample.clocks_hertz.items():
                clock.add_metric([sample.uuid, domain], hertz)
            for reason, held in sample.throttled.items():
                throttled.add_metric([sample.uuid, reason], float(held))
            for kind, count in sample.ecc_errors.items():
                ecc.add_metric([sample.uuid, kind], count)
        yield from (info, *plain.values(), clock, throttled, ecc)
