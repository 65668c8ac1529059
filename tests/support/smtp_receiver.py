"""A mail server under test: takes mail over STARTTLS from whoever logs in, and keeps it."""

import base64
import email.policy
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from support.serving import serving

_TIMEOUT_S = 10.0


class SmtpReceiver(ThreadingTCPServer):
    """Mail that came, and the user and password of each login."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        self.mail: list[EmailMessage] = []
        self.logins: list[tuple[str, str]] = []
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)
        super().__init__(("127.0.0.1", 0), _Session)

    @property
    def address(self) -> str:
        """As ALERT_SMTP_HOST wants it."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Session(StreamRequestHandler):
    timeout = _TIMEOUT_S
    server: SmtpReceiver

    def handle(self) -> None:
        self._safe = self._known = False
        self._say("220 receiver of a test")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb in ("EHLO", "HELO"):
                self._say("250-receiver", "250 AUTH PLAIN" if self._safe else "250 STARTTLS")
            elif verb == "STAR":
                self._say("220 go on")
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                self.setup()
                self._safe = True
            elif verb == "AUTH" and self._safe:
                _, user, password = base64.b64decode(line.split()[-1]).decode().split("\0")
                self.server.logins.append((user, password))
                self._known = True
                self._say("235 welcome")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            elif not self._known:
                self._say("530 log in over TLS first")
            elif verb == "DATA":
                self._say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mail.append(email.message_from_bytes(text, policy=email.policy.default))
                self._say("250 taken")
            else:
                self._say("250 ok")

    def finish(self) -> None:
        super().finish()
        self.request.close()  # not the socket that the server knows, once it speaks TLS

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


@contextmanager
def smtp_receiver(certificate: Path) -> Iterator[SmtpReceiver]:
    """Run one on a free port of the loopback, with this certificate and its key."""
    server = SmtpReceiver(certificate)
    with serving(server):
        yield server
