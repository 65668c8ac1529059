"""A llama-server of a few lines for what a small model is too slow for: endless streams, answers of a given duration.

`executable` gives the path for LLAMA_SERVER. A chat that is streamed never ends; anything else is answered after the
request's `seconds`.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EVENT = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" token"}}]}\n\n' * 50
CONTROL = {"/health": {"status": "ok"}, "/props": {}, "/slots": [], "/metrics": {}}


def executable(folder: Path) -> Path:
    """Write a script that starts this as a llama-server, and return its path."""
    path = folder / "plain-llama"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    path.chmod(0o755)
    return path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.whole(CONTROL[self.path])

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if request.get("stream"):
            self.stream()
        else:
            time.sleep(request.get("seconds", 0))
            self.whole({"output": "done"})

    def whole(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        except OSError:
            print("stream dropped", flush=True)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name for it
        return


if __name__ == "__main__":
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
