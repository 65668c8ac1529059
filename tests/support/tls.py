"""A server over TLS under test, with a certificate that ends when the test says, and the authority that signed it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.serving import serving

_TIMEOUT_S = 10.0


class Authority:
    """Signs certificates for 127.0.0.1; whoever is to trust them is given `file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
        own = self._certificate(self._name, self._key, timedelta(days=3650), is_authority=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def signed(self, left: timedelta) -> Path:
        """Return a file with a key and its certificate, which ends in so long."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server of a test")])
        certificate = self._certificate(name, key, left, is_authority=False)
        file = self._folder / f"server-{int(left.total_seconds())}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, left: timedelta, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        begins = min(now, now + left) - timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(now + left)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


class TlsServer(ThreadingHTTPServer):
    """Answers every GET with its status; later handshakes get the certificate that was given last."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        server = self
        self.status = 200
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

        class Handler(BaseHTTPRequestHandler):
            timeout = _TIMEOUT_S

            def do_GET(self) -> None:
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = self._context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}/"

    def renew(self, certificate: Path) -> None:
        self._context.load_cert_chain(certificate)

    def handle_error(self, *_: object) -> None:
        """A client that trusts no such certificate leaves in the middle of the handshake."""


@contextmanager
def tls_server(certificate: Path) -> Iterator[TlsServer]:
    server = TlsServer(certificate)
    with serving(server):
        yield server
