"""A receiver of traces by OTLP/HTTP, where Langfuse has its own: decodes protobuf, checks keys, can hang or refuse."""

import base64
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/api/public/otel/v1/traces"


@dataclass(frozen=True)
class Received:
    """A span, with its attributes as Python has them."""

    name: str
    trace_id: str
    attributes: dict[str, Any]
    seconds: float
    failed: bool
    raw: bytes = field(repr=False)


class OtlpReceiver:
    """What was received, and how it behaves."""

    def __init__(self, public_key: str, secret_key: str) -> None:
        self._authorization = "Basic " + base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()
        self.spans: list[Received] = []
        self.versions: set[str | None] = set()
        self.refused = 0
        self.go_on = threading.Event()
        """Cleared, no request is answered: the receiver hangs."""
        self.go_on.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, key_alias: str) -> list[Received]:
        return [
            span for span in list(self.spans) if span.attributes.get("langfuse.trace.metadata.key_alias") == key_alias
        ]

    @contextmanager
    def other_keys(self) -> Iterator[None]:
        """Expect others for a while than those that the gate has."""
        right, self._authorization = self._authorization, "Basic none"
        try:
            yield
        finally:
            self._authorization = right

    def take(self, path: str, headers: Any, body: bytes) -> int:
        self.go_on.wait(60)
        if path != PATH:
            return 404
        if headers["Authorization"] != self._authorization:
            self.refused += 1
            return 401
        if headers["Content-Type"] != "application/x-protobuf":
            return 415
        self.versions.add(headers["x-langfuse-ingestion-version"])
        whole = gzip.decompress(body) if headers["Content-Encoding"] == "gzip" else body
        request = ExportTraceServiceRequest.FromString(whole)
        for of_resource in request.resource_spans:
            for of_scope in of_resource.scope_spans:
                self.spans += [_received(span) for span in of_scope.spans]
        return 200


def _received(span: Span) -> Received:
    values = {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    return Received(span.name, span.trace_id.hex(), values, seconds, span.status.code == 2, span.SerializeToString())


@contextmanager
def otlp_receiver(public_key: str, secret_key: str, port: int = 0) -> Iterator[OtlpReceiver]:
    """Run one; `port` 0 is a free one."""
    receiver = OtlpReceiver(public_key, secret_key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take(self.path, self.headers, body)
            answer = ExportTraceServiceResponse().SerializeToString() if status == 200 else b"refused"
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # the gate hangs up on a receiver that hangs

    with Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go_on.set()
            server.shutdown()
            thread.join()
