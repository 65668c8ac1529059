"""The command `litellm-embedded`: each verb is a one-shot step or a process that stays in the foreground.

A command that cannot do its work prints one line, the cause and its mend, and exits with 1.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from litellm_embedded.errors import EmbeddedError


class _OneLineErrors(TyperGroup):
    """Turns an `EmbeddedError` of any command into its one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EmbeddedError as error:
            print(f"litellm-embedded: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


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


@app.callback()
def _group() -> None:
    pass


def _required(*names: str) -> dict[str, str]:
    """Return these environment variables; an error that names every one that is missing or empty."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise EmbeddedError(f"not set: {', '.join(missing)}", "set it in the environment (corral init writes them to .env)")
    return {name: os.environ[name] for name in names}
