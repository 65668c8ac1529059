"""How spans get to Langfuse: in batches, from a thread of their own, and never at the expense of a request.

Memory is bounded on the way: `QUEUED` spans wait at most, of text that is cut off. A batch that is not taken is lost,
and so are those of the next `REST_S` seconds: a Langfuse that hangs holds up nothing but that thread, and the end of
the gate by one try.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler, TraceIdRatioBased

INGESTION = "/api/public/otel/v1/traces"
TRY_S = 3.0
"""How long Langfuse may take over a batch."""
REST_S = 5.0
QUEUED = 1024
BATCH = 256

_UNAUTHORISED = frozenset({401, 403})
_SDK = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

log = logging.getLogger("corral.traces")


def provider(url: str, public_key: str, secret_key: str, sample: float) -> TracerProvider:
    """Return what makes spans and sends them.

    Args:
        url: of Langfuse, without a path.
        public_key: of one of its projects.
        secret_key: of the same.
        sample: the share of traces that is kept, from 0 to 1; an application's own trace is kept or left out whole.
    """
    logging.getLogger(_SDK).setLevel(logging.CRITICAL)  # it tells of each batch; `Delivery` of each change
    made = TracerProvider(sampler=sampler(sample), resource=Resource.create({"service.name": "corral-gate"}))
    made.add_span_processor(in_batches(Delivery(url, public_key, secret_key)))
    return made


def in_batches(exporter: SpanExporter) -> BatchSpanProcessor:
    """Return what gives an exporter its spans, from a thread of its own; of too many, the oldest are dropped."""
    return BatchSpanProcessor(exporter, max_queue_size=QUEUED, max_export_batch_size=BATCH)


def sampler(share: float) -> Sampler:
    """Return what keeps this share of traces, whatever the application says that it keeps itself."""
    return TraceIdRatioBased(share)


class Delivery(SpanExporter):
    """Sends batches, and says in the log when Langfuse stops taking them and when it takes them again."""

    def __init__(self, url: str, public_key: str, secret_key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._status: int | None = None
        session = requests.Session()
        session.auth = (public_key, secret_key)
        session.max_redirects = 0  # a login page would be taken for success
        session.hooks["response"].append(self._note_status)
        self._exporter = OTLPSpanExporter(
            endpoint=url.rstrip("/") + INGESTION,
            headers={"x-langfuse-ingestion-version": "4"},
            timeout=TRY_S,
            compression=Compression.Gzip,
            session=session,
        )
        self._rest_until = 0.0
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, or drop it; see the SDK's `SpanExporter`."""
        if self._clock() < self._rest_until:
            self._lost += len(spans)
            return SpanExportResult.FAILURE
        self._status = None
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.warning("Langfuse at %s takes traces again; %d were lost", self._url, self._lost)
            self._lost = 0
        else:
            if not self._lost:
                log.error("Langfuse at %s takes no traces, requests go on without: %s", self._url, self._reason())
            self._lost += len(spans)
            self._rest_until = self._clock() + REST_S
        return result

    def shutdown(self) -> None:
        """See the SDK's `SpanExporter`."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held here."""
        return True

    def _note_status(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._status = response.status_code

    def _reason(self) -> str:
        if self._status is None:
            return f"no answer within {TRY_S:g} s; is it up, and can it be reached from the gate?"
        if self._status in _UNAUTHORISED:
            return f"status {self._status}: wrong keys; set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY of its project"
        return f"status {self._status}; is this the address of Langfuse itself?"
