"""`DATABASE_URL` as Prisma writes it, read for psycopg."""

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from litellm_embedded.errors import EmbeddedError

_MEND = "set DATABASE_URL to postgresql://user:password@host:port/database"

# Prisma's own parameters (connection_limit, pool_timeout, pgbouncer ...) make libpq refuse the URL. `sslcert` is left
# out too: to Prisma it is the authority's certificate, to libpq the client's.
_LIBPQ_PARAMETERS = frozenset({"application_name", "connect_timeout", "options", "sslmode", "sslrootcert"})


@dataclass(frozen=True)
class DatabaseUrl:
    """The parts of a PostgreSQL URL; the password never shows in its text form."""

    scheme: str
    authority: str
    database: str
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> "DatabaseUrl":
        """Read a URL.

        Raises:
            EmbeddedError: if it is no PostgreSQL URL, has no host or database, or names a schema other than `public`.
        """
        try:
            parts = urlsplit(text)
            host = parts.hostname
            _ = parts.port
        except ValueError as error:
            raise EmbeddedError(f"DATABASE_URL cannot be read: {error}", _MEND) from None
        if parts.scheme not in {"postgresql", "postgres"}:
            raise EmbeddedError(
                f"DATABASE_URL is no PostgreSQL URL (it starts with {parts.scheme or 'nothing'}:)", _MEND
            )
        database = unquote(parts.path.removeprefix("/"))
        if not host or not database:
            raise EmbeddedError(f"DATABASE_URL has no {'database' if host else 'host'}", _MEND)
        parameters = tuple(parse_qsl(parts.query, keep_blank_values=True))
        schema = dict(parameters).get("schema", "public")
        if schema != "public":
            raise EmbeddedError(
                f"DATABASE_URL asks for the schema {schema}", "leave ?schema= out: only public is served"
            )
        return cls(parts.scheme, parts.netloc, database, parameters)

    def for_libpq(self) -> str:
        """Return the URL with the parameters that psycopg understands, password included."""
        query = urlencode([(key, value) for key, value in self.parameters if key in _LIBPQ_PARAMETERS], quote_via=quote)
        return urlunsplit((self.scheme, self.authority, "/" + quote(self.database, safe=""), query, ""))

    def of_database(self, name: str) -> "DatabaseUrl":
        """Return the URL of another database on the same server."""
        return replace(self, database=name)

    @property
    def address(self) -> str:
        """Host and port, without user and password."""
        return self.authority.rpartition("@")[2]

    def __repr__(self) -> str:
        return f"DatabaseUrl({self.address}/{self.database})"

    __str__ = __repr__
