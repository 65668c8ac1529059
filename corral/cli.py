"""The `corral` command.

Each command's module is imported when the command is run, or when the help of all is shown: what brings a farm's model
with it takes a third of a second, which `corral logs` need not wait for.
"""

import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command

from corral.errors import CorralError

_COMMANDS = {
    "up": "corral.commands.up:up",
    "status": "corral.commands.status:status",
    "logs": "corral.commands.logs:logs",
    "top": "corral.top.cli:top",
    "down": "corral.commands.down:down",
    "reset": "corral.commands.down:reset",
    "keys": "corral.keys.cli:app",
    "models": "corral.models.cli:app",
    "init": "corral.setup_farm.command:command",
    "validate": "corral.farm.validate:command",
    "doctor": "corral.doctor.from_farm:command",
    "plan": "corral.plan.cli:plan_command",
    "render": "corral.render.cli:render_command",
    "apply": "corral.apply.cli:apply",
    "rollback": "corral.apply.cli:rollback",
    "history": "corral.apply.cli:history",
    "monitoring": "corral.monitoring.cli:app",
    "report": "corral.report.cli:report",
    "load-test": "corral.loadtest.cli:command",
    "capacity": "corral.capacity.cli:command",
    "bench": "corral.bench.cli:app",
}
err = Console(stderr=True)


class _Commands(MutableMapping[str, Any]):
    """Commands by name, imported when looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, _, attribute = _COMMANDS[name].partition(":")
            self._loaded[name] = _command(name, getattr(import_module(module), attribute))
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


def _command(name: str, found: Any) -> Any:
    """Return the command of a function or of a group of commands."""
    if isinstance(found, typer.Typer):
        command = get_command(found)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    return command


class _Corral(TyperGroup):
    """The command with all its commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the names, in the order of a farm's life."""
        return list(_COMMANDS)


app = typer.Typer(
    name="corral",
    cls=_Corral,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"corral {version('corral')}")
        raise typer.Exit


@app.callback()
def corral(
    told: Annotated[  # its callback answers
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A multi-GPU llama.cpp farm behind one OpenAI-compatible gate."""


def main() -> None:
    """Run the command; an error that a person can mend becomes one line and an exit code."""
    try:
        app()
    except CorralError as error:
        for line in error.lines():
            err.print(f"[red]error:[/red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        err.print(
            f"[red]error:[/red] {escape(where + (error.strerror or str(error)))};"
            " check its owner, its mode and the room on its disk",
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
