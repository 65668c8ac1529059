"""What is shown, worked out of samples: rates over the last seconds, first tokens over the last minute, faults seen."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from corral.top.sample import Metrics, Sample, ServerSample

RATE_S = 5.0
"""Over so long a time speeds are means."""
LATENCY_S = 60.0
MOST_FAULTS = 6
MOST_KEYS = 6
_TTFT = "gen_ai_server_time_to_first_token_seconds_bucket"


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One gpu-server. None is what it did not say, or what did not happen."""

    name: str
    model: str
    state: str
    busy: int | None
    slots: int | None
    queued: int | None
    tokens_per_s: float | None
    requests_per_s: float | None
    ttft_p95_s: float | None
    cached_share: float | None
    restarts: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One card, as the servers on it see it."""

    gpu: str
    name: str
    servers: tuple[str, ...]
    utilisation: float | None
    memory_used: float | None
    memory_total: float | None
    temperature_c: float | None
    power_w: float | None
    power_limit_w: float | None
    throttled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key's use of the gate in the last seconds."""

    alias: str
    requests_per_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class View:
    """One frame."""

    servers: tuple[ServerRow, ...]
    gpus: tuple[GpuRow, ...]
    keys: tuple[KeyRow, ...]
    keys_note: str
    faults: tuple[str, ...]


@dataclass
class History:
    """The samples of the last minute, and the faults seen since the first."""

    samples: deque[Sample] = field(default_factory=deque)
    faults: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_FAULTS))

    def add(self, sample: Sample) -> None:
        """Take a sample in."""
        before = self.samples[-1] if self.samples else None
        for told in _faults(before, sample):
            self.faults.appendleft(f"{time.strftime('%H:%M:%S')}  {told}")
        self.samples.append(sample)
        while self.samples and sample.at - self.samples[0].at > LATENCY_S + RATE_S:
            self.samples.popleft()

    def view(self) -> View:
        """Return the frame of the last sample."""
        now = self.samples[-1]
        recent, minute = self._back(RATE_S), self._back(LATENCY_S)
        keys = tuple(_keys(recent, now))
        return View(
            servers=tuple(_server(name, one, recent, minute, now) for name, one in now.servers.items()),
            gpus=tuple(_gpus(now)),
            keys=keys,
            keys_note=now.gate_error or ("" if keys else "none in the last seconds"),
            faults=tuple(self.faults),
        )

    def _back(self, seconds: float) -> Sample:
        """Return the oldest sample that is not older than that."""
        now = self.samples[-1].at
        return next(sample for sample in self.samples if now - sample.at <= seconds)


def _server(name: str, one: ServerSample, recent: Sample, minute: Sample, now: Sample) -> ServerRow:
    before, earlier = recent.servers.get(name), minute.servers.get(name)
    metrics, status = one.metrics, one.status
    state = one.error or str(status.get("state") or _state(metrics) or "?")
    read, cached = (
        _gained("gpu_server_tokens_in_total", earlier, one),
        _gained("gpu_server_tokens_cached_total", earlier, one),
    )
    return ServerRow(
        name=name,
        model=str(status.get("model") or ""),
        state=state,
        busy=_whole(metrics.total("gpu_server_in_flight")),
        slots=_whole(metrics.total("gpu_server_slots")),
        queued=_whole(metrics.total("gpu_server_queued")),
        tokens_per_s=_rate("gpu_server_tokens_out_total", before, one, now.at - recent.at),
        requests_per_s=_rate("gpu_server_requests_total", before, one, now.at - recent.at),
        ttft_p95_s=_quantile(0.95, earlier.metrics if earlier else Metrics(), metrics),
        cached_share=cached / read if read and cached is not None else None,
        restarts=int(metrics.total("gpu_server_restarts_total") or 0),
        gpus=tuple(metrics.by("gpu_info", "gpu")),
    )


def _state(metrics: Metrics) -> str | None:
    return next((state for state, value in metrics.by("gpu_server_state", "state").items() if value), None)


def _gained(metric: str, before: ServerSample | None, now: ServerSample) -> float | None:
    """By how much a counter has grown; from nought where its server began anew."""
    last = now.metrics.total(metric)
    first = before.metrics.total(metric) if before else None
    if last is None or first is None:
        return None
    return last - first if last >= first else last


def _rate(metric: str, before: ServerSample | None, now: ServerSample, seconds: float) -> float | None:
    gained = _gained(metric, before, now)
    return gained / seconds if gained is not None and seconds > 0 else None


def _quantile(share: float, before: Metrics, now: Metrics) -> float | None:
    """Return the upper boundary of the histogram's bucket that holds the quantile of what came between."""
    first, last = before.by(_TTFT, "le"), now.by(_TTFT, "le")
    counts = sorted((float(le), count - first.get(le, 0.0)) for le, count in last.items())
    if not counts or counts[-1][1] <= 0:
        return None
    wanted = share * counts[-1][1]
    return next(boundary for boundary, count in counts if count >= wanted)


def _gpus(now: Sample) -> Iterator[GpuRow]:
    on: dict[str, list[tuple[str, Metrics]]] = {}
    for name, one in now.servers.items():
        for gpu in one.metrics.by("gpu_info", "gpu"):
            on.setdefault(gpu, []).append((name, one.metrics))
    for gpu, those in on.items():
        metrics = those[0][1]
        reasons = (dict(labels) for labels, value in metrics.values.get("gpu_throttled", {}).items() if value)
        names = (dict(labels) for labels in metrics.values.get("gpu_info", {}))
        yield GpuRow(
            gpu=gpu,
            name=next((each["name"] for each in names if each.get("gpu") == gpu), ""),
            servers=tuple(name for name, _ in those),
            utilisation=metrics.total("gpu_utilization_ratio", gpu=gpu),
            memory_used=metrics.total("gpu_memory_used_bytes", gpu=gpu),
            memory_total=metrics.total("gpu_memory_total_bytes", gpu=gpu),
            temperature_c=metrics.total("gpu_temperature_celsius", gpu=gpu),
            power_w=metrics.total("gpu_power_watts", gpu=gpu),
            power_limit_w=metrics.total("gpu_power_limit_watts", gpu=gpu),
            throttled=tuple(sorted(each["reason"] for each in reasons if each.get("gpu") == gpu)),
        )


def _keys(recent: Sample, now: Sample) -> Iterator[KeyRow]:
    seconds = now.at - recent.at
    if now.gate is None or recent.gate is None or seconds <= 0:
        return
    asked = _grown("litellm_proxy_total_requests_metric_total", recent.gate, now.gate)
    made = _grown("litellm_output_tokens_metric_total", recent.gate, now.gate)
    rows = [
        KeyRow(alias or "(no alias)", count / seconds, made.get(alias, 0.0) / seconds)
        for alias, count in asked.items()
        if count or made.get(alias)
    ]
    yield from sorted(rows, key=lambda row: (-row.tokens_per_s, -row.requests_per_s, row.alias))[:MOST_KEYS]


def _grown(metric: str, before: Metrics, now: Metrics) -> dict[str, float]:
    first = before.by(metric, "api_key_alias")
    return {alias: max(0.0, value - first.get(alias, 0.0)) for alias, value in now.by(metric, "api_key_alias").items()}


def _faults(before: Sample | None, now: Sample) -> Iterator[str]:
    """Say what went wrong since the sample before; in the first, what the servers have counted so far."""
    for name, one in now.servers.items():
        past = before.servers.get(name) if before else None
        if one.error and (past is None or past.error != one.error):
            yield f"{name}: {one.error}"
        if past is not None and past.error and not one.error:
            yield f"{name}: answers again"
        for cause, count in one.metrics.by("gpu_server_restarts_total", "cause").items():
            known = past.metrics.by("gpu_server_restarts_total", "cause").get(cause, 0.0) if past else 0.0
            if count > known and not (past is not None and past.error):
                times = "" if past else f" ({count:.0f} so far)"
                yield f"{name}: llama-server replaced, {cause.replace('_', ' ')}{times}"


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
