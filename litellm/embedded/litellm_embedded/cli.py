"""The command `litellm-embedded`: each verb is a one-shot step or a process that stays in the foreground.

A command that cannot do its work prints one line, the cause and its mend, and exits with 1.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Never

import typer
from typer.core import TyperGroup

from litellm_embedded.errors import EmbeddedError


class _OneLineErrors(TyperGroup):
    """Turns an `EmbeddedError` of any command into its one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EmbeddedError as error:
            self._tell(error)
        except OSError as error:
            self._tell(
                EmbeddedError(
                    f"{error.filename}: {error.strerror}", "check its owner, its mode and the room on its disk"
                )
            )

    @staticmethod
    def _tell(error: EmbeddedError) -> Never:
        print(f"litellm-embedded: {error}", file=sys.stderr)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_OneLineErrors,
    help="LiteLLM with its own key management on one machine: PostgreSQL, migrations and the Prisma engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def postgres(
    data: Annotated[Path, typer.Option(help="Data directory; made where it is missing or empty.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")],
) -> None:
    """Run PostgreSQL in the foreground; POSTGRES_PASSWORD in the environment is the password of its user litellm."""
    from litellm_embedded.postgres import serve

    serve(data, port, _required("POSTGRES_PASSWORD")["POSTGRES_PASSWORD"])


@app.command()
def install() -> None:
    """Make the Prisma engine and client usable; says nothing and takes no time where there is nothing to do."""
    from litellm_embedded.install import install as run

    run(say)


@app.command()
def migrate(
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for PostgreSQL.")] = 60,
) -> None:
    """Bring the database of DATABASE_URL to LiteLLM's schema, waiting for PostgreSQL first."""
    from litellm_embedded.database_url import DatabaseUrl
    from litellm_embedded.migrations import prepare_database

    prepare_database(DatabaseUrl.parse(_required("DATABASE_URL")["DATABASE_URL"]), timeout, say)


@app.command()
def proxy(
    config: Annotated[Path, typer.Option(help="LiteLLM's config.yaml.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 4000,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for PostgreSQL.")] = 60,
) -> None:
    """Run LiteLLM in the foreground, after migrating the database of DATABASE_URL."""
    from litellm_embedded.proxy import REQUIRED, ProxyOptions, serve

    _required(*REQUIRED)
    serve(ProxyOptions(config, host, port, timeout), os.environ, say)


def say(line: str) -> None:
    """Print one plain line at once, also into a pipe."""
    print(f"litellm-embedded: {line}", flush=True)


@app.callback()
def _group() -> None:
    pass


def _required(*names: str) -> dict[str, str]:
    """Return these environment variables; an error that names every one that is missing or empty."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise EmbeddedError(f"not set: {', '.join(missing)}", "set it in the environment (make up writes them to .env)")
    return {name: os.environ[name] for name in names}
