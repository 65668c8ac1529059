"""`corral keys create | list | show | revoke`: as tables, or as JSON for scripts.

Exit codes: 0 done, 1 the gate failed, 2 the arguments are wrong. An error is one line on stderr.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from corral.keys.access import DEFAULT_STATE_DIR, resolve_access
from corral.keys.arguments import check_models, parse_new_key
from corral.keys.client import CreatedKey, GateAccess, KeyClient, KeyInfo, NewKey
from corral.keys.errors import InputError, KeysError
from corral.keys.tables import created_as_data, key_as_data, key_table, keys_table

T = TypeVar("T")

PIPED_WIDTH = 160  # columns, where no terminal says how wide it is
STDIN = "-"

app = typer.Typer(name="keys", no_args_is_help=True, help="API keys: make, list, show and revoke them.")

StateOption = Annotated[
    Path, typer.Option("--state", envvar="CORRAL_STATE", help="The farm's state directory.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def create(
    models: Annotated[
        list[str] | None, typer.Option("--models", metavar="NAME,...", help="Models it may use; all if not given.")
    ] = None,
    alias: Annotated[str | None, typer.Option(metavar="NAME", help="A name for it; each can be used once.")] = None,
    rpm: Annotated[str | None, typer.Option(metavar="N", help="Requests a minute.")] = None,
    tpm: Annotated[str | None, typer.Option(metavar="N", help="Tokens a minute.")] = None,
    parallel: Annotated[str | None, typer.Option(metavar="N", help="Requests at a time.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="DOLLARS", help="What it may spend.")] = None,
    budget_reset: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Start the budget anew this often: 1d, 7d, 1mo.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="DURATION", help="It stops working after this: 30d.")] = None,
    traces: Annotated[
        str | None, typer.Option(metavar="off|figures|content", help="What of its calls Langfuse gets.")
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = DEFAULT_STATE_DIR,
) -> None:
    """Make a key and show it, this once.

    [bold]Examples[/bold]

      corral keys create --models chat,embed --alias wiki

      corral keys create --models chat --rpm 60 --parallel 2 --budget 5 --budget-reset 30d

      corral keys create --models chat --expires 7d --json | jq -r .key
    """
    with _one_line_errors():
        new = parse_new_key(
            alias=alias,
            models=models or (),
            rpm=rpm,
            tpm=tpm,
            parallel=parallel,
            budget=budget,
            budget_reset=budget_reset,
            expires=expires,
            traces=traces,
        )
        created = _run(state, lambda client: _create(client, new))
    now = datetime.now(UTC)
    if as_json:
        _print_json(created_as_data(created, now))
        return
    _print_table(key_table(created.info, now))
    typer.echo("\nThe key, shown only now; keep it in a safe place:")
    typer.echo(created.key)


@app.command("list")
def list_keys(as_json: JsonOption = False, state: StateOption = DEFAULT_STATE_DIR) -> None:
    """List all keys, newest first.

    [bold]Example[/bold]

      corral keys list --json | jq '.[] | select(.spend > 1) | .alias'
    """
    with _one_line_errors():
        keys = _run(state, _all_keys)
    now = datetime.now(UTC)
    if as_json:
        _print_json([key_as_data(key, now) for key in keys])
    elif keys:
        _print_table(keys_table(keys, now))
    else:
        typer.echo("No keys yet. Make one: corral keys create --models chat")


@app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="KEY|ALIAS", help="A key, its id or alias; - reads it from stdin.")],
    as_json: JsonOption = False,
    state: StateOption = DEFAULT_STATE_DIR,
) -> None:
    """Show what a key may do and what it has spent.

    [bold]Examples[/bold]

      corral keys show wiki

      pass show wiki-key | corral keys show -    a key that stays out of the shell's history
    """
    with _one_line_errors():
        references = _references([key])
        if len(references) > 1:
            raise InputError(f"{len(references)} keys are named", "name one")
        found = _run(state, lambda client: client.find(references[0]))
    now = datetime.now(UTC)
    if as_json:
        _print_json(key_as_data(found, now))
    else:
        _print_table(key_table(found, now))


@app.command()
def revoke(
    keys: Annotated[list[str], typer.Argument(metavar="KEY|ALIAS...", help="Keys, ids or aliases; - reads stdin.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    state: StateOption = DEFAULT_STATE_DIR,
) -> None:
    """Revoke keys for good: all of them, or none if one does not exist.

    [bold]Examples[/bold]

      corral keys revoke wiki

      corral keys revoke wiki shop --yes
    """
    with _one_line_errors():
        references = _references(keys)
        if not yes and not somebody_is_there():
            raise InputError("nobody is there to confirm", "add --yes")
        found = _run(state, lambda client: _find_all(client, references))
        if not yes:
            typer.confirm(f"Revoke {', '.join(key.name for key in found)}?", abort=True, err=True)
        _run(state, lambda client: client.revoke([key.id for key in found]))
    if as_json:
        _print_json({"revoked": [{"id": key.id, "alias": key.alias} for key in found]})
    else:
        typer.echo(f"Revoked {', '.join(key.name for key in found)}.")


def connect(access: GateAccess) -> KeyClient:
    """Return a client for the gate; tests put another in its place."""
    return KeyClient(access)


def somebody_is_there() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin.isatty()


def _run(state: Path, work: Callable[[KeyClient], Awaitable[T]]) -> T:
    async def with_client() -> T:
        async with connect(resolve_access(state)) as client:
            return await work(client)

    return asyncio.run(with_client())


async def _create(client: KeyClient, new: NewKey) -> CreatedKey:
    check_models(new.models, await client.models() if new.models else ())
    if new.alias is not None and await client.with_alias(new.alias) is not None:
        raise InputError(f"the alias {new.alias!r} is taken", "choose another --alias, or see: corral keys list")
    return await client.create(new)


async def _all_keys(client: KeyClient) -> list[KeyInfo]:
    return [key async for key in client.all_keys()]


async def _find_all(client: KeyClient, references: list[str]) -> list[KeyInfo]:
    found = [await client.find(reference) for reference in references]
    return list({key.id: key for key in found}.values())


def _references(given: list[str]) -> list[str]:
    """Replace `-` by the words on stdin: a key typed there does not end up in the shell's history."""
    words: list[str] = []
    for reference in given:
        words += sys.stdin.read().split() if reference == STDIN else [reference.strip()]
    if not words or not all(words):
        raise InputError("no key is named", "give a key or an alias, or pipe one in and give -")
    return words


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Print a KeysError as one line and end the command with its exit code."""
    try:
        yield
    except KeysError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _print_table(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)
