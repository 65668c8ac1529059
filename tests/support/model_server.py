"""A web server with model files, that can resume, break off, stall, redirect, refuse and lie: one behaviour a path."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 64 * 1024
_HOLD_S = 30.0  # no test holds a connection longer


@dataclass
class Served:
    """A file, and what goes wrong with it. Faults of the body spare requests for a few bytes (Corral's first look)."""

    body: bytes = b""
    etag: str | None = '"v1"'
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    redirect: str | None = None
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers given, one a request, before the file is."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next bodies break off."""
    hold_after: int | None = None
    """After how many bytes the body waits for `released`."""
    released: threading.Event = field(default_factory=threading.Event)
    no_length: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request, names in lower case."""

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range of each request for the body."""
        return [headers.get("range") for headers in self.asked if not _is_look(headers.get("range"))]


class ModelServer:
    """Paths and what is served there; add to `files` at any time."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, Served] = {}
        self.busy = 0
        self.most_busy = 0
        self.changed = threading.Condition()

    def put(self, path: str, body: bytes, **behaviour: object) -> Served:
        """Serve a file at a path."""
        self.files[path] = Served(body, **behaviour)
        return self.files[path]

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a body as under way."""
        with self.changed:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.busy -= 1
                self.changed.notify_all()


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run a server on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                _answer(self, served)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a client that was killed is no error here
            pass

    listening = Server(("127.0.0.1", 0), Handler)
    served = ModelServer(listening.server_port)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        for file in served.files.values():
            file.released.set()
        listening.shutdown()
        thread.join(10)
        listening.server_close()


def _answer(request: BaseHTTPRequestHandler, server: ModelServer) -> None:
    path = request.path.partition("?")[0]
    file = server.files.get(path)
    if file is None:
        _short(request, 404, {})
        return
    asked = {name.lower(): value for name, value in request.headers.items()}
    file.asked.append(asked)
    if file.refusals:
        _short(request, *file.refusals.pop(0))
    elif file.redirect is not None:
        _short(request, 302, {"Location": file.redirect, **file.headers})
    else:
        _send(request, server, file, asked)


def _send(request: BaseHTTPRequestHandler, server: ModelServer, file: Served, asked: dict[str, str]) -> None:
    start, end = _range(file, asked)
    partial = end is not None
    body = file.body[start : end if partial else None]
    request.send_response(206 if partial else 200)
    if partial:
        request.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(file.body)}")
    if file.no_length:
        request.send_header("Connection", "close")
        request.close_connection = True
    else:
        request.send_header("Content-Length", str(len(body)))
    if file.etag is not None:
        request.send_header("ETag", file.etag)
    for name, value in file.headers.items():
        request.send_header(name, value)
    request.end_headers()
    if _is_look(asked.get("range")):
        request.wfile.write(body)
        return
    with server.counted():
        _body(request, file, body)


def _body(request: BaseHTTPRequestHandler, file: Served, body: bytes) -> None:
    cut = file.cuts.pop(0) if file.cuts else None
    hold, file.hold_after = file.hold_after, None
    if hold is not None:
        request.wfile.write(body[:hold])
        request.wfile.flush()
        file.released.wait(_HOLD_S)
        body = body[hold:]
    body = body if cut is None else body[:cut]
    for at in range(0, len(body), PIECE):
        request.wfile.write(body[at : at + PIECE])
    if cut is not None:
        request.close_connection = True


def _range(file: Served, asked: dict[str, str]) -> tuple[int, int | None]:
    """Return first byte and the one after the last; None for the latter if the whole file is to be sent."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
    condition = asked.get("if-range")
    if not file.ranges or found is None or (condition is not None and condition != file.etag):
        return 0, None
    end = int(found[2]) + 1 if found[2] else len(file.body)
    return int(found[1]), min(end, len(file.body))


def _is_look(asked: str | None) -> bool:
    return asked == "bytes=0-3"


def _short(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": "0", **headers}.items():
        request.send_header(name, value)
    request.end_headers()
