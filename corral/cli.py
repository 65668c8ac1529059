"""The `corral` command."""

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from corral import container_logs
from corral import logs as farm_logs
from corral import status as farm_status
from corral.apply import cli as apply_cli
from corral.apply.on_hosts import is_for_hosts
from corral.bench.cli import app as bench_app
from corral.capacity import cli as capacity_cli
from corral.doctor import from_farm
from corral.down import bring_down
from corral.errors import CorralError
from corral.farm import load_farm, validate
from corral.keys.cli import app as keys_app
from corral.loadtest import cli as loadtest_cli
from corral.models.cli import app as models_app
from corral.monitoring import beside as monitoring_beside
from corral.monitoring.cli import app as monitoring_app
from corral.options import DEFAULT_STATE, FileOption, StateOption, environment_of_parts, farm_file, state_dir
from corral.paths import StateDir
from corral.plan.cli import plan_command
from corral.progress import for_console
from corral.render.cli import render_command
from corral.report.cli import report
from corral.request_trail import FileLogs, HeldLogs, Logs
from corral.setup_farm import command as setup_farm
from corral.top.cli import rows_now, top
from corral.up import Started, alone, bring_up
from corral.yamlfile import YamlFileErrors

app = typer.Typer(
    name="corral",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="A multi-GPU llama.cpp farm behind one OpenAI-compatible gate.",
    pretty_exceptions_enable=False,
)
app.add_typer(keys_app)
app.add_typer(models_app)
app.add_typer(monitoring_app, name="monitoring")
app.add_typer(bench_app, name="bench")
app.command("capacity")(capacity_cli.command)
app.command("load-test")(loadtest_cli.command)
app.command("init")(setup_farm.command)
app.command("validate")(validate.command)
app.command("doctor")(from_farm.command)
app.command("plan")(plan_command)
app.command("render")(render_command)
app.command("apply")(apply_cli.apply)
app.command("rollback")(apply_cli.rollback)
app.command("history")(apply_cli.history)
app.command("top")(top)
app.command("report")(report)
out = Console()
err = Console(stderr=True)


@app.command()
def up(state: StateOption = DEFAULT_STATE, file: FileOption = None) -> None:
    """Start the farm and print its endpoint and a fresh API key; if it runs already, change nothing.

    The farm is what corral.yaml says; without that file it is farms/laptop.yaml: two chat servers and one embedding
    server on the CPU, or with NVIDIA GPUs and a llama-server that can use them one chat server a GPU.

    [bold]Examples[/bold]

      corral up

      corral up --file farms/laptop.yaml     another farm file

      CORRAL_PORT=8000 corral up             another port for the gate

      LLAMA_SERVER=~/llama-server corral up  an own build of llama.cpp
    """
    where = state_dir(state)
    try:
        started = bring_up(where, farm_file(file), environment_of_parts(os.environ), for_console(out))
    except KeyboardInterrupt:
        err.print("\ninterrupted: what this command started is stopped again", highlight=False)
        raise typer.Exit(130) from None
    if started.key is None:
        out.print("The farm is already running; nothing was changed.\n", highlight=False)
        farm_status.print_table(out, farm_status.current(where))
        out.print('\nAnother key: make keys ARGS="create --models chat,embed"', highlight=False)
        return
    progress = for_console(out)
    with alone(where, progress):
        monitoring_beside.keep(where, environment_of_parts(os.environ), progress)
    _welcome(started, started.key)


def _welcome(started: Started, key: str) -> None:
    farm, endpoint = started.farm, started.farm.endpoint
    login = f"{started.secrets.ui_username} / {started.secrets.ui_password}"
    chats = [name for name in farm.models if farm.modes.get(name, "chat") == "chat"]
    question = "What is a corral?"
    if chats:
        route, asked = "chat/completions", {"model": chats[0], "messages": [{"role": "user", "content": question}]}
    else:
        route, asked = "embeddings", {"model": farm.models[0], "input": question}
    body = json.dumps(asked)
    direct = "--noproxy 127.0.0.1 " if any(name.lower().endswith("_proxy") for name in os.environ) else ""
    curl = (
        f"curl -s {direct}{endpoint}/{route} -H 'Authorization: Bearer {key}'"
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    lines = [
        f"endpoint   {endpoint}",
        f"API key    {key}   (shown once)",
        f"models     {', '.join(farm.models)}",
        f"Admin UI   {endpoint.removesuffix('/v1')}/ui   login {login}",
    ]
    out.print(
        Panel("\n".join(escape(line) for line in lines), title=f"ready after {started.seconds:.0f} s", expand=False)
    )
    out.print("\nTry it:\n")
    out.print(escape(curl), soft_wrap=True, highlight=False)
    out.print("\nmake status, make logs, make keys ARGS=list, make down", style="dim", highlight=False)


@app.command()
def down(state: StateOption = DEFAULT_STATE) -> None:
    """Stop the whole farm; data and keys stay.

    [bold]Example[/bold]

      corral down
    """
    began = time.monotonic()
    stopped = bring_down(state_dir(state))
    if stopped:
        out.print(
            f"Stopped; {stopped} processes ended in {time.monotonic() - began:.1f} s. Data and keys are kept.",
            highlight=False,
        )
    else:
        out.print("The farm was not running.", highlight=False)


@app.command()
def status(
    state: StateOption = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    file: FileOption = None,
) -> None:
    """Show each part: state, address, pid, memory, since when. Exit code 3 if the farm is not running.

    [bold]Examples[/bold]

      corral status

      corral status --json | jq -r .endpoint

      corral status --json | jq '.servers[] | select(.state != "ready") | .name'
    """
    farm = farm_status.current(state_dir(state))
    if as_json:
        servers = rows_now(state_dir(state), file) if farm is not None and farm.phase == "running" else ()
        sys.stdout.write(json.dumps(farm_status.as_json(farm, servers), indent=1) + "\n")
    else:
        farm_status.print_table(out, farm)
    if farm is None or farm.phase not in ("running", "starting"):
        raise typer.Exit(farm_status.NOT_RUNNING)


def _logs_of(state: StateDir, named: Path | None) -> Logs:
    """Return this machine's logs; those of containers where the farm file is of such, and none ran here."""
    if named is not None or not farm_logs.names(state):
        farm = load_farm(farm_file(named)).value
        if is_for_hosts(farm):
            return HeldLogs(container_logs.of_farm(farm))
    return FileLogs(state)


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help="A part's name; all parts if left out.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines, of each part.")] = 40,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is added, until Ctrl-C.")] = False,
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="One request's lines of all logs; see x-litellm-call-id.")
    ] = None,
    state: StateOption = DEFAULT_STATE,
    file: FileOption = None,
) -> None:
    """Print the ends of the parts' logs.

    [bold]Examples[/bold]

      corral logs

      corral logs chat-1 -n 200

      corral logs litellm --follow

      corral logs --request 5606de1b-78e1-4fbe-bd7c-004b31173f78     from the gate to llama-server

      corral logs --request 5606de1b-... --file corral.yaml     the same, of containers on the hosts of that file
    """
    if request is not None:
        if part or follow:
            raise CorralError("--request looks through all logs, once", "leave the part and --follow out", exit_code=2)
        farm_logs.show_request(_logs_of(state_dir(state), file), out, request)
        return
    try:
        farm_logs.show(state_dir(state), out, part, lines, follow=follow)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def reset(
    state: StateOption = DEFAULT_STATE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the farm and delete its data: keys, spend, database, logs, secrets. Asks first.

    [bold]Examples[/bold]

      corral reset

      corral reset --yes
    """
    where = state_dir(state)
    if not where.root.exists():
        out.print(f"There is nothing to delete: {where.root} does not exist.", highlight=False)
        return
    if not (where.root / "run").is_dir():
        raise CorralError(f"{where.root} is not a farm's state folder", "name the right one with --state", exit_code=2)
    if not yes:
        if not sys.stdin.isatty():
            raise CorralError(
                "reset deletes all keys and data and cannot ask here", "say --yes if you mean it", exit_code=2
            )
        typer.confirm(f"Delete all keys, spend and data in {where.root}?", abort=True)
    bring_down(where)
    shutil.rmtree(where.root)
    out.print(f"Deleted {where.root}.", highlight=False)


def main() -> None:
    """Run the command; an error that a person can mend becomes one line and an exit code."""
    try:
        app()
    except YamlFileErrors as errors:
        for line in errors.lines():
            err.print(f"[red]error:[/red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(errors.exit_code)
    except CorralError as error:
        err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
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
