"""Makes a span of each call that LiteLLM logs, on its own path and on the fast path alike."""

import logging
from collections.abc import Mapping
from typing import Any, Self

from litellm.integrations.custom_logger import CustomLogger
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from corral_traces import delivery
from corral_traces.span import Detail, attributes, detail_of, name_of

URL, PUBLIC_KEY, SECRET_KEY = "LANGFUSE_OTEL_HOST", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"
DETAIL, SAMPLE = "CORRAL_TRACES", "LANGFUSE_SAMPLE_RATE"

log = logging.getLogger("corral.traces")


class Traces(CustomLogger):  # type: ignore[misc]  # LiteLLM is not followed
    """Nothing that goes wrong in here reaches a request: LiteLLM calls it when the answer is through."""

    def __init__(self, provider: TracerProvider | None, default: Detail) -> None:
        super().__init__()
        self._tracer = provider.get_tracer("corral") if provider else None
        self._default = default
        self._headers = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the callback that the environment describes; one that traces nothing where it is incomplete."""
        missing = [name for name in (URL, PUBLIC_KEY, SECRET_KEY) if not environment.get(name)]
        if missing:
            log.error("nothing is traced: %s not set", " and ".join(missing))
            return cls(None, Detail.OFF)
        said = environment.get(DETAIL, Detail.FIGURES)
        default = Detail(said) if said in list(Detail) else Detail.FIGURES
        if default != said:
            log.error("%s is %r, and must be one of %s: figures are traced", DETAIL, said, ", ".join(Detail))
        sample = _share(environment.get(SAMPLE, "1"))
        provider = delivery.provider(environment[URL], environment[PUBLIC_KEY], environment[SECRET_KEY], sample)
        return cls(provider, default)

    def wants_text(self, metadata: Mapping[str, Any]) -> bool:
        """Say whether the text of an answer is to be kept for us; the fast path asks.

        Args:
            metadata: what LiteLLM keeps of the request.
        """
        return self._tracer is not None and detail_of(metadata, self._default) is Detail.CONTENT

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`."""
        self._record(kwargs)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """See LiteLLM's `CustomLogger`; called for each try that failed."""
        self._record(kwargs)

    def _record(self, call: Mapping[str, Any]) -> None:
        payload = call.get("standard_logging_object")
        if self._tracer is None or not payload:
            return
        parameters = call.get("litellm_params") or {}
        metadata = parameters.get("metadata") or parameters.get("litellm_metadata") or {}
        detail = detail_of(metadata, self._default)
        if detail is Detail.OFF:
            return
        span = self._tracer.start_span(
            name_of(payload),
            context=self._trace_of(parameters),
            kind=SpanKind.CLIENT,
            attributes=attributes(payload, detail),
            start_time=_nanoseconds(payload["startTime"]),
        )
        if payload.get("status") == "failure":
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(payload["endTime"]))

    def _trace_of(self, parameters: Mapping[str, Any]) -> Context:
        """Return the application's own trace where it has sent one (W3C `traceparent`); else a new one."""
        headers = (parameters.get("proxy_server_request") or {}).get("headers") or {}
        sent = {name.lower(): value for name, value in headers.items() if name.lower() == "traceparent"}
        return self._headers.extract(sent, Context())


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if 0 <= share <= 1:
        return share
    log.error("%s is %r, and must be a number from 0 to 1: every trace is kept", SAMPLE, text)
    return 1.0


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
