"""`corral up`."""

import json
import os
import shlex

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from corral import status
from corral.monitoring import beside as monitoring_beside
from corral.options import DEFAULT_STATE, FileOption, StateOption, environment_of_parts, farm_file, state_dir
from corral.progress import for_console
from corral.up import Started, alone, bring_up

out = Console()
err = Console(stderr=True)


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
        status.print_table(out, status.current(where))
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
