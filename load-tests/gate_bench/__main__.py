"""`make bench-gate`: every way from a client to a llama-server, side by side on one fast fake of it.

Ways that are not installed here are left out, and said. Rounds go to all ways in turns. Prints Markdown; writes
`bench-results/gate.json` and, with `--plot`, a picture.

    make bench-gate                                     about 10 minutes
    make bench-gate ARGS=--real                         the same chats through each gate to real servers
    make bench-gate ARGS="--only direct --only 'LiteLLM tuned' --rounds 1"
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from bench_gpu_server import ready
from rich.console import Console

from gate_bench import real
from gate_bench.figures import Measured, Rounds
from gate_bench.report import DIRECT, markdown, plot
from gate_bench.ways import Way, all_ways
from support.ports import free_port
from support.postgres import running_postgres
from support.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
said = Console(stderr=True)


@contextmanager
def fake_server() -> Iterator[int]:
    """Run the fake in a process of its own."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "gate_bench.fake", "--port", str(port)])
    try:
        wait_until(lambda: ready(port), 20, "the fake llama-server")
        yield port
    finally:
        process.kill()
        process.wait(10)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each goes to all ways.")] = 3,
    scale: Annotated[float, typer.Option(min=0.05, help="Length of a round.")] = 1.0,
    only: Annotated[list[str] | None, typer.Option(help="Titles of ways; the direct one is always among them.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="An SVG to draw.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the JSON.")] = CHECKOUT / "bench-results",
    on_real: Annotated[
        bool, typer.Option("--real", help="Two real llama-servers in place of the fake; no other option than --rounds.")
    ] = False,
) -> None:
    """Measure what each way from a client to a llama-server costs."""
    out.mkdir(exist_ok=True)
    if on_real:
        if only or picture or scale != 1.0:
            raise typer.BadParameter("--real goes with --rounds and --out alone")
        found = real.measured(rounds, said.print)
        print(real.markdown(found))
        (out / "gate-real.json").write_text(json.dumps({title: dict(one.rounds) for title, one in found.items()}))
        return
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="gate-bench-") as name, ExitStack() as stack:
        folder, ways = Path(name), dict[str, Way]()
        database = cache(lambda: stack.enter_context(running_postgres(folder)))  # only if a way needs it
        known = all_ways(folder, stack.enter_context(fake_server()), database)
        if unknown := set(only or ()) - set(known):
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: no such way; there are {', '.join(known)}")
        for title, opened in known.items():
            if only and title not in (DIRECT, *only):
                continue
            said.print(f"starting: {title}")
            way = stack.enter_context(opened())
            if way is None:
                said.print(f"left out, not installed here: {title}")
            else:
                ways[title], measured[title] = way, Measured()
        Rounds(0.1).warm(ways.values())
        for number in range(rounds):
            for title in list(ways) if number % 2 == 0 else list(reversed(ways)):
                said.print(f"round {number + 1} of {rounds}: {title}")
                Rounds(scale).measure(ways[title], measured[title])
    print(markdown(measured))
    result = {"cores": os.cpu_count(), "rounds": rounds, "scale": scale}
    ways_data = {title: dict(one.rounds) for title, one in measured.items()}
    (out / "gate.json").write_text(json.dumps({**result, "ways": ways_data}, indent=1))
    if picture is not None:
        plot(measured, picture)


if __name__ == "__main__":
    typer.run(main)
