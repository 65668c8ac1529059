"""The card's own state through NVML (nvidia-ml-py), for metrics and to notice a lost GPU.

NVML calls can hang with a broken driver: they run in one thread of their own, with a deadline, and scrapes read the
last sample. Without an NVIDIA driver there is nothing to sample, and no metric either.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SAMPLE_INTERVAL_S = 5.0
SAMPLE_TIMEOUT_S = 10.0

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


class GpuLostError(Exception):
    """The driver says the GPU is gone."""


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
    """Samples the cards in the background; a collector of `gpu_*` metrics from the last sample."""

    def __init__(self, uuid: str | None, on_lost: Callable[[], None], nvml: Any = None) -> None:
        self.samples: list[Sample] = []
        self._uuid = uuid
        self._on_lost = on_lost
        self._nvml = nvml

    async def run(self) -> None:
        """Sample until cancelled; returns at once where there is no card."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="nvml")
        loop = asyncio.get_running_loop()
        try:
            reader = await loop.run_in_executor(thread, self._open)
            if reader is None:
                return
            while True:
                await self._sample(loop.run_in_executor(thread, reader.sample))
                await asyncio.sleep(SAMPLE_INTERVAL_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> Nvml | None:
        if self._nvml is None:
            import pynvml  # here: 15 ms that a machine without a GPU need not wait for at start

            self._nvml = pynvml
        reader = Nvml(self._nvml, self._uuid)
        return reader if reader.open() else None

    async def _sample(self, reading: "asyncio.Future[list[Sample]]") -> None:
        try:
            self.samples = await asyncio.wait_for(reading, SAMPLE_TIMEOUT_S)
        except TimeoutError:
            self.samples = []
            _log.warning("NVML did not answer within %s s", SAMPLE_TIMEOUT_S)
        except GpuLostError as error:
            self.samples = []
            _log.warning("the GPU is lost: %s", error)
            self._on_lost()

    def collect(self) -> Iterator[Metric]:
        """Give the last samples as metrics."""
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
                family = plain.setdefault(name, GaugeMetricFamily(name, "From NVML.", labels=["gpu"]))
                family.add_metric([sample.uuid], value)
            for domain, hertz in sample.clocks_hertz.items():
                clock.add_metric([sample.uuid, domain], hertz)
            for reason, held in sample.throttled.items():
                throttled.add_metric([sample.uuid, reason], float(held))
            for kind, count in sample.ecc_errors.items():
                ecc.add_metric([sample.uuid, kind], count)
        yield from (info, *plain.values(), clock, throttled, ecc)
