"""What is answered where the settings are wrong and something would start the gpu-server again at once.

Docker's pause between restarts begins at 0.1 s, and each start costs a slow host a second of its CPU. So in the image a
gpu-server with wrong settings stays for a minute, says on /health that it failed and why, and then ends: a file that
was put where it is looked for is found by the next start.
"""

import json
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

from gpu_server.errors import error_body

RETRY_AFTER_S = 60
_MOST_PAUSE_S = 3600.0


@dataclass(frozen=True)
class Place:
    """Where and how long to answer, as far as the settings tell it: they are wrong, so nothing of them is sure.

    Args:
        host: to listen on.
        port: the same; None: nowhere.
        pause_s: how long.
        server: the server's name.
    """

    host: str
    port: int | None
    pause_s: float
    server: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Place":
        """Read what can be read; a pause that cannot be read is a minute."""
        try:
            pause_s = min(max(float(environ.get("RESTART_PAUSE_S") or 0), 0.0), _MOST_PAUSE_S)
        except ValueError:
            pause_s = float(RETRY_AFTER_S)
        port = environ.get("PORT") or "8080"
        return cls(
            host=environ.get("HOST") or "127.0.0.1",
            port=int(port) if port.isdecimal() and 0 < int(port) < 65536 else None,
            pause_s=pause_s,
            server=environ.get("SERVER_NAME", ""),
        )


def stay(faults: Sequence[str], environ: Mapping[str, str]) -> None:
    """Answer that it failed for RESTART_PAUSE_S, or until SIGTERM or SIGINT; at once back where that is 0."""
    place = Place.read(environ)
    if not place.pause_s:
        return
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, end)
    server = _listen(place, "; ".join(faults))
    if server is None:
        ended.wait(place.pause_s)
        return
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        ended.wait(place.pause_s)
        server.shutdown()


def _listen(place: Place, why: str) -> ThreadingHTTPServer | None:
    if place.port is None:
        return None

    class Answer(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/health":
                body = json.dumps({"state": "failed", "server": place.server, "detail": why}).encode()
            else:
                body = error_body("this server's settings are wrong; its log says which", "unavailable_error", "failed")
            self.send_response(HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", str(RETRY_AFTER_S))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in place.host else socket.AF_INET

        def handle_error(self, *_: object) -> None:
            pass  # a client that left

    try:
        return Server((place.host, place.port), Answer)
    except OSError:
        return None  # the fault may be that very port
